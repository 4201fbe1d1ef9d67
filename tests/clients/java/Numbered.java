import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * Produces, reads in a group and reads assigned partitions, each in a thread of its own, with the client's defaults but
 * for what the contract asks for. Compiles against kafka-clients 2.1 to 4.x.
 */
public final class Numbered {
    private static final int KEYS = 24;
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long COMMIT_EVERY_MS = 1000;

    private final String bootstrap;
    private final String topic;
    private final int partitions;
    private final String group;
    private final int rate;
    private volatile boolean producing = true;
    private volatile boolean reading = true;
    private volatile boolean seek = false;

    private Numbered(String[] args) {
        bootstrap = args[0];
        topic = args[1];
        partitions = Integer.parseInt(args[2]);
        group = args[3];
        rate = Integer.parseInt(args[4]);
    }

    public static void main(String[] args) throws Exception {
        new Numbered(args).run();
    }

    private void run() throws IOException, InterruptedException {
        Line.hello(AppInfoParser.getVersion(), true);
        Thread producer = start("producer", this::produce);
        Thread group = start("group", this::readInGroup);
        Thread assigned = start("assigned", this::readAssigned);
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String order = orders.readLine(); order != null; order = orders.readLine()) {
            switch (order) {
                case "seek":
                    seek = true;
                    break;
                case "stop":
                    producing = false;
                    producer.join();
                    Line.flushed();
                    break;
                case "end":
                    reading = false;
                    group.join();
                    assigned.join();
                    System.exit(0);
                    break;
                default:
                    throw new IllegalArgumentException(order);
            }
        }
        // The runner is gone.
        Runtime.getRuntime().halt(1);
    }

    private Thread start(String role, Runnable work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Throwable error) {
                Line.error(role, true, error);
            }
        }, role);
        thread.start();
        return thread;
    }

    private Properties properties(String side) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", side);
        for (String part : new String[] {"key", "value"}) {
            String kind = side.equals("producer") ? "Serializer" : "Deserializer";
            String way = side.equals("producer") ? "serializer" : "deserializer";
            properties.put(part + "." + way, "org.apache.kafka.common.serialization.String" + kind);
        }
        if (side.equals("producer")) {
            properties.put("acks", "all");
            properties.put("enable.idempotence", "true");
        } else {
            properties.put("enable.auto.commit", "false");
            properties.put("auto.offset.reset", "earliest");
        }
        return properties;
    }

    private void produce() {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties("producer"))) {
            long start = System.nanoTime();
            for (long n = 0; producing; n++) {
                sleepUntil(start + n * 1_000_000_000L / rate);
                String id = n % KEYS + "-" + n / KEYS;
                ProducerRecord<String, String> record =
                    new ProducerRecord<>(topic, "key-" + n % KEYS, id + " " + "x".repeat(80));
                producer.send(record, (metadata, error) -> {
                    if (error == null) {
                        Line.ack(metadata.partition(), metadata.offset(), id);
                    } else {
                        Line.error("producer", true, error);
                    }
                });
            }
            producer.flush();
        }
    }

    private static void sleepUntil(long due) {
        long early = due - System.nanoTime();
        if (early > 0) {
            try {
                Thread.sleep(early / 1_000_000, (int) (early % 1_000_000));
            } catch (InterruptedException error) {
                throw new IllegalStateException(error);
            }
        }
    }

    private static String id(ConsumerRecord<String, String> record) {
        return record.value().substring(0, record.value().indexOf(' '));
    }

    /** Commits what was processed once a second and, as an application should, when partitions are taken away. */
    private void readInGroup() {
        Properties properties = properties("group");
        properties.put("group.id", group);
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            Map<TopicPartition, OffsetAndMetadata> processed = new HashMap<>();
            consumer.subscribe(Collections.singletonList(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
                    commit(consumer, processed);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> assigned) {}
            });
            long committed = System.currentTimeMillis();
            while (reading) {
                for (ConsumerRecord<String, String> record : poll("group", consumer)) {
                    Line.read("group", record.partition(), record.offset(), id(record));
                    processed.put(
                        new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                if (System.currentTimeMillis() - committed >= COMMIT_EVERY_MS) {
                    commit(consumer, processed);
                    committed = System.currentTimeMillis();
                }
            }
            commit(consumer, processed);
        }
    }

    private void commit(
            KafkaConsumer<String, String> consumer, Map<TopicPartition, OffsetAndMetadata> processed) {
        if (processed.isEmpty()) {
            return;
        }
        try {
            consumer.commitSync(processed);
            processed.clear();
        } catch (RuntimeException error) {
            Line.error("group", false, error);
        }
    }

    /** Its positions are its own; to seek is to go back to them, as after a restart of the application. */
    private void readAssigned() {
        List<TopicPartition> all =
            IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(topic, p)).collect(Collectors.toList());
        Map<TopicPartition, Long> positions = new HashMap<>();
        all.forEach(partition -> positions.put(partition, 0L));
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties("assigned"))) {
            consumer.assign(all);
            positions.forEach(consumer::seek);
            while (reading) {
                if (seek) {
                    seek = false;
                    positions.forEach(consumer::seek);
                }
                for (ConsumerRecord<String, String> record : poll("assigned", consumer)) {
                    Line.read("assigned", record.partition(), record.offset(), id(record));
                    positions.put(new TopicPartition(topic, record.partition()), record.offset() + 1);
                }
            }
        }
    }

    /** An application that goes on after an exception; what is thrown again and again ends it. */
    private static Iterable<ConsumerRecord<String, String>> poll(String role, KafkaConsumer<String, String> consumer) {
        RuntimeException last = null;
        for (int attempt = 0; attempt < 10; attempt++) {
            try {
                return consumer.poll(POLL);
            } catch (RuntimeException error) {
                Line.error(role, false, error);
                last = error;
            }
        }
        throw last;
    }
}
