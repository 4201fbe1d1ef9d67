import java.io.BufferedReader;
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
 * What the programs have in common: the runner's orders, the three roles in threads of their own, and what a plain producer
 * and plain readers do. Compiles against kafka-clients 2.1 to 4.x.
 */
abstract class Task {
    static final int KEYS = 24;
    static final Duration POLL = Duration.ofMillis(100);
    private static final long COMMIT_EVERY_MS = 1000;

    final String bootstrap;
    final String topic;
    final int partitions;
    final String group;
    final int rate;
    volatile boolean producing = true;
    volatile boolean reading = true;
    private volatile boolean seek = false;

    Task(String[] args) {
        bootstrap = args[0];
        topic = args[1];
        partitions = Integer.parseInt(args[2]);
        group = args[3];
        rate = Integer.parseInt(args[4]);
    }

    abstract void produce() throws Exception;

    abstract void group() throws Exception;

    abstract void assigned() throws Exception;

    /** Before the roles begin. */
    void open() throws Exception {}

    /** The assigned reader is sent back to its positions: a look around is over. */
    void sought() {}

    /** When the roles have ended; `orderly`: else the runner is gone. */
    void close(boolean orderly) throws Exception {}

    interface Work {
        void run() throws Exception;
    }

    final void run() throws Exception {
        Line.hello(AppInfoParser.getVersion(), true);
        open();
        Thread producer = start("producer", this::produce);
        Thread group = start("group", this::group);
        Thread assigned = start("assigned", this::assigned);
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String order = orders.readLine(); order != null; order = orders.readLine()) {
            switch (order) {
                case "seek":
                    seek = true;
                    sought();
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
                    close(true);
                    System.exit(0);
                    break;
                default:
                    throw new IllegalArgumentException(order);
            }
        }
        close(false);
        Runtime.getRuntime().halt(1);
    }

    private static Thread start(String role, Work work) {
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

    /** A client's defaults but for what the contract asks for. */
    final Properties producing(String id) {
        Properties properties = properties(id, "serializer", "Serializer");
        properties.put("acks", "all");
        properties.put("enable.idempotence", "true");
        return properties;
    }

    final Properties consuming(String id) {
        Properties properties = properties(id, "deserializer", "Deserializer");
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        return properties;
    }

    final Properties consumingCommitted(String id) {
        Properties properties = consuming(id);
        properties.put("isolation.level", "read_committed");
        return properties;
    }

    private Properties properties(String id, String way, String kind) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", id);
        for (String part : new String[] {"key", "value"}) {
            properties.put(part + "." + way, "org.apache.kafka.common.serialization.String" + kind);
        }
        return properties;
    }

    /** The numbered records, each when it is due. */
    final void produceRecords() throws InterruptedException {
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(producing("producer"))) {
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

    /** Commits what was processed once a second and, as an application should, when partitions are taken away. */
    final void readInGroup(String from, Properties properties) {
        properties.put("group.id", group);
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            Map<TopicPartition, OffsetAndMetadata> processed = new HashMap<>();
            consumer.subscribe(Collections.singletonList(from), new ConsumerRebalanceListener() {
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
                        new TopicPartition(from, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                if (System.currentTimeMillis() - committed >= COMMIT_EVERY_MS) {
                    commit(consumer, processed);
                    committed = System.currentTimeMillis();
                }
            }
            commit(consumer, processed);
        }
    }

    private static void commit(
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
    final void readAssigned(String from, Properties properties) {
        List<TopicPartition> all =
            IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(from, p)).collect(Collectors.toList());
        Map<TopicPartition, Long> positions = new HashMap<>();
        all.forEach(partition -> positions.put(partition, 0L));
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            consumer.assign(all);
            positions.forEach(consumer::seek);
            while (reading) {
                if (seek) {
                    seek = false;
                    positions.forEach(consumer::seek);
                }
                for (ConsumerRecord<String, String> record : poll("assigned", consumer)) {
                    Line.read("assigned", record.partition(), record.offset(), id(record));
                    positions.put(new TopicPartition(from, record.partition()), record.offset() + 1);
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

    static String id(ConsumerRecord<String, String> record) {
        return record.value().substring(0, record.value().indexOf(' '));
    }

    static void sleepUntil(long due) throws InterruptedException {
        long early = due - System.nanoTime();
        if (early > 0) {
            Thread.sleep(early / 1_000_000, (int) (early % 1_000_000));
        }
    }
}
