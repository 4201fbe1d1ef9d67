import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
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

/**
 * A producer in transactions, a processor that reads, writes and commits its offsets in one transaction, a reader of the
 * output. One producer object each for the whole run, as an application has.
 */
public final class Exact extends Task {
    private static final int PER_TRANSACTION = 4;
    /** Every fifth transaction is aborted; its records have keys that must never be seen. */
    private static final int ABORT_EVERY = 5;
    private static final int ABORTED = 1000;

    private final String output;

    private Exact(String[] args) {
        super(args);
        output = topic + "-out";
    }

    public static void main(String[] args) throws Exception {
        new Exact(args).run();
    }

    @Override
    void assigned() {
        readAssigned(output, consumingCommitted("assigned"));
    }

    private KafkaProducer<String, String> producer(String id) {
        Properties properties = producing(id);
        properties.put("transactional.id", group + "-" + id);
        return new KafkaProducer<>(properties);
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

    @Override
    void produce() throws Exception {
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
                sent.add(producer.send(new ProducerRecord<>(topic, "key-" + n % KEYS, id + " " + "x".repeat(80))));
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

    @Override
    void group() {
        Properties properties = consumingCommitted("processor");
        properties.put("group.id", group);
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties);
                KafkaProducer<String, String> producer = producer("processor")) {
            producer.initTransactions();
            consumer.subscribe(Collections.singletonList(topic));
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
                    new TopicPartition(topic, record.partition()), new OffsetAndMetadata(record.offset() + 1));
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
}
