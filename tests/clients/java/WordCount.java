import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Collections;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Collectors;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Kafka Streams counts the records of each key with exactly_once_v2 and a local store; every count goes out, so that the
 * output names each record of the input once: the count behind record K-S is S + 1, and goes out as K-S.
 */
public final class WordCount extends Task {
    private final String output;
    private final AtomicLong restored = new AtomicLong();
    private Path state;
    private KafkaStreams streams;

    private WordCount(String[] args) {
        super(args);
        output = topic + "-out";
    }

    public static void main(String[] args) throws Exception {
        new WordCount(args).run();
    }

    @Override
    void produce() throws InterruptedException {
        produceRecords();
    }

    @Override
    void group() {
        readInGroup(output, consumingCommitted("group"));
    }

    @Override
    void assigned() {
        readAssigned(output, consumingCommitted("assigned"));
    }

    @Override
    void open() throws IOException {
        state = Files.createTempDirectory("word-count");
        streams = new KafkaStreams(counting().build(), properties());
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
        streams.start();
    }

    @Override
    void sought() {
        Line.note("so far restored: " + restored + " records");
    }

    @Override
    void close(boolean orderly) throws IOException {
        if (orderly) {
            Line.note("restored " + restored + " records, " + restoredBytes() + " bytes from changelogs; state "
                + streams.state());
            streams.close(Duration.ofSeconds(10));
        }
        try (var all = Files.walk(state)) {
            for (Path path : all.sorted(Collections.reverseOrder()).collect(Collectors.toList())) {
                Files.deleteIfExists(path);
            }
        }
    }

    private StreamsBuilder counting() {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(topic)
            .groupByKey()
            .count()
            .toStream()
            .map((key, count) -> new KeyValue<>(key, key.substring("key-".length()) + "-" + (count - 1) + " counted"))
            .to(output);
        return builder;
    }

    private Properties properties() {
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
        return properties;
    }

    private long restoredBytes() {
        return streams.metrics().values().stream()
            .filter(metric -> metric.metricName().name().equals("bytes-consumed-total"))
            .filter(metric -> metric.metricName().tags().getOrDefault("client-id", "").endsWith("restore-consumer"))
            // The total alone, not the same by topic.
            .filter(metric -> !metric.metricName().tags().containsKey("topic"))
            .mapToLong(metric -> ((Double) metric.metricValue()).longValue())
            .sum();
    }
}
