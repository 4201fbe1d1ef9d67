/** Lines of JSON for the runner; tests/clients/README.md has the contract. */
final class Line {
    private Line() {}

    static void hello(String version, boolean idempotent) {
        say("{\"event\":\"hello\",\"version\":\"" + version + "\",\"idempotent\":" + idempotent + "}");
    }

    static void ack(int partition, long offset, String id) {
        say("{\"event\":\"ack\"," + place(partition, offset, id));
    }

    static void read(String by, int partition, long offset, String id) {
        say("{\"event\":\"read\",\"by\":\"" + by + "\"," + place(partition, offset, id));
    }

    static void error(String by, boolean fatal, Throwable error) {
        if (fatal) {
            error.printStackTrace();
        }
        say("{\"event\":\"error\",\"by\":\"" + by + "\",\"fatal\":" + fatal + ",\"text\":\"" + escaped(error)
            + "\",\"ms\":" + System.currentTimeMillis() + "}");
    }

    static void note(String text) {
        say("{\"event\":\"note\",\"text\":\"" + text + "\"}");
    }

    static void flushed() {
        say("{\"event\":\"flushed\"}");
    }

    private static String place(int partition, long offset, String id) {
        return "\"partition\":" + partition + ",\"offset\":" + offset + ",\"id\":\"" + id + "\",\"ms\":"
            + System.currentTimeMillis() + "}";
    }

    private static String escaped(Throwable error) {
        return error.toString().replace("\\", "\\\\").replace("\"", "\\\"").replaceAll("\\p{Cntrl}", " ");
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }
}
