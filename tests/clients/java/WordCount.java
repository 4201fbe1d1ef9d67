import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Kafka Streams counts the records of each key with exactly_once_v2 and a local store; every count goes out, so that the
 * output names each record of the input once: the count behind record K-S is S + 1, and goes out as K-S.
 */
public final class WordCount {
    private static final int KEYS = 24;
    private static final Duration POLL = Duration.ofMillis(100);
    private static final long COMMIT_EVERY_MS = 1000;

    private final String bootstrap;
    private final String input;
    private final String output;
    private final int partitions;
    private final String group;
    private final int rate;
    private volatile boolean producing = true;
    private volatile boolean reading = true;
    private volatile boolean seek = false;

    private WordCount(String[] args) {
        bootstrap = args[0];
        input = args[1];
        output = args[1] + "-out";
        partitions = Integer.parseInt(args[2]);
        group = args[3];
        rate = Integer.parseInt(args[4]);
    }

    public static void main(String[] args) throws Exception {
        new WordCount(args).run();
    }

    private void run() throws Exception {
        Line.hello(AppInfoParser.getVersion(), true);
        Path state = Files.createTempDirectory("word-count");
        AtomicLong restored = new AtomicLong();
        KafkaStreams streams = streams(state, restored);
        streams.start();
        Thread producer = start("producer", this::produce);
        Thread group = start("group", () -> read("group"));
        Thread assigned = start("assigned", () -> read("assigned"));
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
                    Line.note("restored " + restored + " records, " + restoredBytes(streams)
                        + " bytes from changelogs; state " + streams.state());
                    streams.close(Duration.ofSeconds(10));
                    delete(state);
                    System.exit(0);
                    break;
                default:
                    throw new IllegalArgumentException(order);
            }
        }
        // The runner is gone.
        delete(state);
        Runtime.getRuntime().halt(1);
    }

    private static void delete(Path directory) throws IOException {
        try (var all = Files.walk(directory)) {
            for (Path path : all.sorted(Collections.reverseOrder()).collect(Collectors.toList())) {
                Files.deleteIfExists(path);
            }
        }
    }

    private KafkaStreams streams(Path state, AtomicLong restored) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(input)
            .groupByKey()
            .count()
            .toStream()
            .map((key, count) -> new org.apache.kafka.streams.KeyValue<>(
                key, key.substring("key-".length()) + "-" + (count - 1) + " counted"))
            .to(output);
        Properties properties = new Properties();
        properties.put("application.id", group + "-streams");
        properties.put("bootstrap.servers", bootstrap);
        properties.put("processing.guarantee", "exactly_once_v2");
        properties.put("state.dir", state.toString());
        properties.put("replication.factor", "1");
        // Every count goes out, none is merged with the next.
        properties.put("statestore.cache.max.bytes", "0");
        properties.put("default.key.serde", Serdes.StringSerde.class);
        properties.put("default.value.serde", Serdes.StringSerde.class);
        properties.put("consumer.auto.offset.reset", "earliest");
        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        streams.setUncaughtExceptionHandler(error -> {
            // An application that replaces the thread goes on; that it had to is told.
            Line.error("group", false, error);
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition partition, String store, long start, long end) {}

            @Override
            public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
                restored.addAndGet(count);
            }

            @Override
            public void onRestoreEnd(TopicPartition partition, String store, long total) {}
        });
        return streams;
    }

    private static long restoredBytes(KafkaStreams streams) {
        return streams.metrics().values().stream()
            .filter(metric -> metric.metricName().name().equals("bytes-consumed-total"))
            .filter(metric -> metric.metricName().tags().getOrDefault("client-id", "").endsWith("restore-consumer"))
            // The total alone, not the same by topic.
            .filter(metric -> !metric.metricName().tags().containsKey("topic"))
            .mapToLong(metric -> ((Double) metric.metricValue()).longValue())
            .sum();
    }

    private interface Work {
        void run() throws Exception;
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

    private void produce() throws InterruptedException {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", "producer");
        properties.put("acks", "all");
        properties.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        properties.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties)) {
            long start = System.nanoTime();
            for (long n = 0; producing; n++) {
                long early = start + n * 1_000_000_000L / rate - System.nanoTime();
                if (early > 0) {
                    Thread.sleep(early / 1_000_000, (int) (early % 1_000_000));
                }
                String id = n % KEYS + "-" + n / KEYS;
                producer.send(new ProducerRecord<>(input, "key-" + n % KEYS, id + " word"), (metadata, error) -> {
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

    /** The output, in a group with commits once a second, or assigned with positions of its own. */
    private void read(String role) {
        boolean inGroup = role.equals("group");
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", role);
        properties.put("group.id", group);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        properties.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        List<TopicPartition> all =
            IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(output, p)).collect(Collectors.toList());
        Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties)) {
            if (inGroup) {
                consumer.subscribe(Collections.singletonList(output), new ConsumerRebalanceListener() {
                    @Override
                    public void onPartitionsRevoked(Collection<TopicPartition> revoked) {
                        consumer.commitSync(positions);
                    }

                    @Override
                    public void onPartitionsAssigned(Collection<TopicPartition> assigned) {}
                });
            } else {
                consumer.assign(all);
                all.forEach(partition -> consumer.seek(partition, 0));
            }
            long committed = System.currentTimeMillis();
            while (reading) {
                if (!inGroup && seek) {
                    seek = false;
                    positions.forEach((partition, position) -> consumer.seek(partition, position.offset()));
                }
                for (ConsumerRecord<String, String> record : consumer.poll(POLL)) {
                    String id = record.value().substring(0, record.value().indexOf(' '));
                    Line.read(role, record.partition(), record.offset(), id);
                    positions.put(
                        new TopicPartition(output, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                if (inGroup && System.currentTimeMillis() - committed >= COMMIT_EVERY_MS) {
                    consumer.commitSync(positions);
                    committed = System.currentTimeMillis();
                }
            }
        }
    }
}
