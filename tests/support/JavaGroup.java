// Members of one consumer group, one thread each, by the Java client. On stdout, a line each: a record as
// "R partition offset number", an error that reached the application as "E member text".
//
// Arguments: bootstrap topic group members properties... (key=value; the same for all members, with {n} for the member's
// number). Ends at SIGTERM, each member with a commit.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public class JavaGroup {
    private static final AtomicBoolean RUNNING = new AtomicBoolean(true);

    public static void main(String[] args) throws InterruptedException {
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

    private static void read(int n, String[] args) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", args[0]);
        properties.put("group.id", args[2]);
        properties.put("client.id", "java-" + n);
        properties.put("auto.offset.reset", "earliest");
        for (String pair : List.of(args).subList(4, args.length)) {
            String[] parts = pair.split("=", 2);
            properties.put(parts[0], parts[1].replace("{n}", Integer.toString(n)));
        }
        boolean manual = "false".equals(properties.get("enable.auto.commit"));
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties, bytes, bytes)) {
            consumer.subscribe(List.of(args[1]), new ConsumerRebalanceListener() {
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    say("I " + n + " revoked " + partitions);
                    if (manual && !partitions.isEmpty()) {
                        commit(n, consumer);
                    }
                }

                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    say("I " + n + " assigned " + partitions);
                }

                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    say("I " + n + " lost " + partitions);
                }
            });
            while (RUNNING.get()) {
                poll(n, consumer, manual);
            }
            if (manual) {
                commit(n, consumer);
            }
        } catch (RuntimeException e) {
            say("E " + n + " ends: " + e);
        }
    }

    private static void poll(int n, KafkaConsumer<byte[], byte[]> consumer, boolean manual) {
        var records = consumer.poll(Duration.ofMillis(50));
        StringBuilder lines = new StringBuilder();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            String value = new String(record.value(), StandardCharsets.UTF_8).split(" ", 2)[0];
            lines.append("R ").append(record.partition()).append(' ').append(record.offset()).append(' ').append(value).append('\n');
        }
        synchronized (RUNNING) {
            System.out.print(lines);
        }
        if (manual && !records.isEmpty()) {
            consumer.commitAsync((offsets, e) -> {
                if (e != null) {
                    say("I " + n + " commit: " + e);
                }
            });
        }
    }

    private static void commit(int n, KafkaConsumer<byte[], byte[]> consumer) {
        try {
            consumer.commitSync(Duration.ofSeconds(10));
        } catch (RuntimeException e) {
            say("I " + n + " commit: " + e);
        }
    }

    private static void say(String line) {
        synchronized (RUNNING) {
            System.out.println(line);
        }
    }
}
