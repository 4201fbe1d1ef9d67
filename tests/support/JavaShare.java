// Members of one share group (KIP-932), one thread each, by the Java client. On stdout, a line each: a record as
// "R partition offset number", an error that reached the application as "E member text", what became of acknowledgements that
// were refused as "I member text".
//
// Arguments: bootstrap topic group members properties... (key=value; the same for all members, with {n} for the member's
// number; "reset" is a setting of the group). With explicit acknowledgements the first delivery of some records is released.
// Ends at SIGTERM, each member with its acknowledgements.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class JavaShare {
    private static final AtomicBoolean RUNNING = new AtomicBoolean(true);

    public static void main(String[] args) throws Exception {
        for (String pair : List.of(args).subList(4, args.length)) {
            if (pair.startsWith("reset=")) {
                reset(args[0], args[2], pair.substring(6));
            }
        }
        int members = Integer.parseInt(args[3]);
        Thread[] threads = new Thread[members];
        for (int n = 0; n < members; n++) {
            int number = n;
            threads[n] = new Thread(() -> read(number, args));
            threads[n].start();
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            RUNNING.set(false);
            for (Thread thread : threads) {
                try {
                    thread.join();
                } catch (InterruptedException e) {
                    return;
                }
            }
        }));
        for (Thread thread : threads) {
            thread.join();
        }
    }

    private static void reset(String bootstrap, String group, String to) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(properties)) {
            ConfigEntry entry = new ConfigEntry("share.auto.offset.reset", to);
            admin.incrementalAlterConfigs(Map.of(
                new ConfigResource(ConfigResource.Type.GROUP, group),
                List.of(new AlterConfigOp(entry, AlterConfigOp.OpType.SET)))).all().get();
        }
    }

    private static void read(int n, String[] args) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("group.id", args[2]);
        properties.put("client.id", "share-" + n);
        for (String pair : List.of(args).subList(4, args.length)) {
            String[] parts = pair.split("=", 2);
            if (!parts[0].equals("reset")) {
                properties.put(parts[0], parts[1].replace("{n}", Integer.toString(n)));
            }
        }
        boolean explicit = "explicit".equals(properties.get("share.acknowledgement.mode"));
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(properties, bytes, bytes)) {
            consumer.setAcknowledgementCommitCallback((offsets, e) -> {
                if (e != null) {
                    say("I " + n + " not acknowledged: " + e);
                }
            });
            consumer.subscribe(List.of(args[1]));
            while (RUNNING.get()) {
                poll(n, consumer, explicit);
            }
            consumer.commitSync(Duration.ofSeconds(10));
        } catch (RuntimeException e) {
            say("E " + n + " ends: " + e);
        }
    }

    private static void poll(int n, KafkaShareConsumer<byte[], byte[]> consumer, boolean explicit) {
        var records = consumer.poll(Duration.ofMillis(50));
        StringBuilder lines = new StringBuilder();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            boolean first = record.deliveryCount().orElse((short) 1) == 1;
            if (explicit && first && record.offset() % 97 == 0) {
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                continue;
            }
            if (explicit) {
                consumer.acknowledge(record, AcknowledgeType.ACCEPT);
            }
            String value = new String(record.value(), StandardCharsets.UTF_8).split(" ", 2)[0];
            lines.append("R ").append(record.partition()).append(' ').append(record.offset()).append(' ').append(value).append('\n');
        }
        synchronized (RUNNING) {
            System.out.print(lines);
        }
        if (explicit && !records.isEmpty()) {
            consumer.commitAsync();
        }
    }

    private static void say(String line) {
        synchronized (RUNNING) {
            System.out.println(line);
        }
    }
}
