import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnsupportedVersionException;
import org.apache.kafka.common.utils.AppInfoParser;

/**
 * A producer in transactions, a processor that reads, writes and commits its offsets in one transaction, a reader of the
 * output. One producer object each for the whole run, as an application has.
 */
public final class Exact {
    private static final int KEYS = 24;
    private static final int PER_TRANSACTION = 4;
    /** Every fifth transaction is aborted; its records have keys that must never be seen. */
    private static final int ABORT_EVERY = 5;
    private static final int ABORTED = 1000;
    private static final Duration POLL = Duration.ofMillis(100);

    private final String bootstrap;
    private final String input;
    private final String output;
    private final int partitions;
    private final String group;
    private final int rate;
    private volatile boolean producing = true;
    private volatile boolean reading = true;
    private volatile boolean seek = false;

    private Exact(String[] args) {
        bootstrap = args[0];
        input = args[1];
        output = args[1] + "-out";
        partitions = Integer.parseInt(args[2]);
        group = args[3];
        rate = Integer.parseInt(args[4]);
    }

    public static void main(String[] args) throws Exception {
        new Exact(args).run();
    }

    private void run() throws Exception {
        Line.hello(AppInfoParser.getVersion(), true);
        Thread producer = start("producer", this::produce);
        Thread processor = start("group", this::process);
        Thread reader = start("assigned", this::readOutput);
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
                    processor.join();
                    reader.join();
                    System.exit(0);
                    break;
                default:
                    throw new IllegalArgumentException(order);
            }
        }
        // The runner is gone.
        Runtime.getRuntime().halt(1);
    }

    private interface Work {
        void run() throws Exception;
    }

    private Thread start(String role, Work work) {
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

    private KafkaProducer<String, String> producer(String id) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", id);
        properties.put("transactional.id", group + "-" + id);
        properties.put("key.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        properties.put("value.serializer", "org.apache.kafka.common.serialization.StringSerializer");
        return new KafkaProducer<>(properties);
    }

    private KafkaConsumer<String, String> consumer(String id) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("client.id", id);
        properties.put("group.id", group);
        properties.put("isolation.level", "read_committed");
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        properties.put("key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        properties.put("value.deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
        return new KafkaConsumer<>(properties);
    }

    /** What Kafka's documentation says cannot be aborted: the producer has to be closed. */
    private static boolean isFatal(Throwable error) {
        for (Throwable e = error; e != null; e = e.getCause()) {
            if (e instanceof ProducerFencedException || e instanceof OutOfOrderSequenceException
                || e instanceof AuthorizationException || e instanceof UnsupportedVersionException
                || e instanceof IllegalStateException) {
                return true;
            }
        }
        return false;
    }

    /** A commit or abort that took too long may be asked for again. */
    private void patiently(String role, Runnable end) {
        for (;;) {
            try {
                end.run();
                return;
            } catch (TimeoutException error) {
                Line.error(role, false, error);
            }
        }
    }

    private void produce() throws Exception {
        try (KafkaProducer<String, String> producer = producer("producer")) {
            producer.initTransactions();
            long start = System.nanoTime();
            for (long n = 0; producing; n++) {
                sleepUntil(start + n * PER_TRANSACTION * 1_000_000_000L / rate);
                if (n % ABORT_EVERY == 0) {
                    transaction(producer, n, false);
                }
                // The same records again until they are committed.
                while (!transaction(producer, n, true)) {
                    Thread.sleep(20);
                }
            }
        }
    }

    /** Whether it ended as wanted. An error that can be aborted is aborted. */
    private boolean transaction(KafkaProducer<String, String> producer, long number, boolean commit) throws Exception {
        List<String> ids = new ArrayList<>();
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try {
            producer.beginTransaction();
            for (long n = number * PER_TRANSACTION; n < (number + 1) * PER_TRANSACTION; n++) {
                long key = n % KEYS + (commit ? 0 : ABORTED);
                String id = key + "-" + n / KEYS;
                ids.add(id);
                // The same partition either way.
                sent.add(producer.send(new ProducerRecord<>(input, "key-" + n % KEYS, id + " " + "x".repeat(80))));
            }
            if (commit) {
                patiently("producer", producer::commitTransaction);
            } else {
                producer.flush();
                patiently("producer", producer::abortTransaction);
            }
        } catch (KafkaException error) {
            if (isFatal(error)) {
                throw error;
            }
            Line.error("producer", false, error);
            patiently("producer", producer::abortTransaction);
            return false;
        }
        for (int i = 0; commit && i < ids.size(); i++) {
            RecordMetadata metadata = sent.get(i).get();
            Line.ack(metadata.partition(), metadata.offset(), ids.get(i));
        }
        return true;
    }

    private void process() throws Exception {
        try (KafkaConsumer<String, String> consumer = consumer("processor");
                KafkaProducer<String, String> producer = producer("processor")) {
            producer.initTransactions();
            consumer.subscribe(Collections.singletonList(input));
            while (reading) {
                ConsumerRecords<String, String> records = consumer.poll(POLL);
                if (!records.isEmpty()) {
                    process(consumer, producer, records);
                }
            }
        }
    }

    private void process(
            KafkaConsumer<String, String> consumer, KafkaProducer<String, String> producer,
            ConsumerRecords<String, String> records) {
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        try {
            producer.beginTransaction();
            for (ConsumerRecord<String, String> record : records) {
                producer.send(new ProducerRecord<>(output, record.key(), record.value()));
                offsets.put(
                    new TopicPartition(input, record.partition()), new OffsetAndMetadata(record.offset() + 1));
            }
            producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
            patiently("group", producer::commitTransaction);
        } catch (KafkaException error) {
            if (isFatal(error)) {
                throw error;
            }
            Line.error("group", false, error);
            patiently("group", producer::abortTransaction);
            goBack(consumer);
            return;
        }
        for (ConsumerRecord<String, String> record : records) {
            Line.read("group", record.partition(), record.offset(), id(record));
        }
    }

    /** To what is committed, since nothing of what was polled has had an effect. */
    private void goBack(KafkaConsumer<String, String> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition partition : consumer.assignment()) {
            OffsetAndMetadata position = committed.get(partition);
            if (position == null) {
                consumer.seekToBeginning(Collections.singleton(partition));
            } else {
                consumer.seek(partition, position.offset());
            }
        }
    }

    private void readOutput() {
        List<TopicPartition> all =
            IntStream.range(0, partitions).mapToObj(p -> new TopicPartition(output, p)).collect(Collectors.toList());
        Map<TopicPartition, Long> positions = new HashMap<>();
        all.forEach(partition -> positions.put(partition, 0L));
        try (KafkaConsumer<String, String> consumer = consumer("assigned")) {
            consumer.assign(all);
            positions.forEach(consumer::seek);
            while (reading) {
                if (seek) {
                    seek = false;
                    positions.forEach(consumer::seek);
                }
                for (ConsumerRecord<String, String> record : consumer.poll(POLL)) {
                    Line.read("assigned", record.partition(), record.offset(), id(record));
                    positions.put(new TopicPartition(output, record.partition()), record.offset() + 1);
                }
            }
        }
    }

    private static String id(ConsumerRecord<String, String> record) {
        return record.value().substring(0, record.value().indexOf(' '));
    }

    private static void sleepUntil(long due) throws InterruptedException {
        long early = due - System.nanoTime();
        if (early > 0) {
            Thread.sleep(early / 1_000_000, (int) (early % 1_000_000));
        }
    }
}
