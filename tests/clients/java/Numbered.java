/** Produces, reads in a group and reads assigned partitions. Compiles against kafka-clients 2.1 to 4.x. */
public final class Numbered extends Task {
    private Numbered(String[] args) {
        super(args);
    }

    public static void main(String[] args) throws Exception {
        new Numbered(args).run();
    }

    @Override
    void produce() throws InterruptedException {
        produceRecords();
    }

    @Override
    void group() {
        readInGroup(topic, consuming("group"));
    }

    @Override
    void assigned() {
        readAssigned(topic, consuming("assigned"));
    }
}
