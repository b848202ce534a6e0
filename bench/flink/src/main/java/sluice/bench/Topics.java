package sluice.bench;

import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.lineage.DefaultKafkaDatasetFacet;
import org.apache.flink.connector.kafka.lineage.DefaultKafkaDatasetIdentifier;
import org.apache.flink.connector.kafka.lineage.KafkaDatasetFacet;
import org.apache.flink.connector.kafka.lineage.KafkaDatasetFacetProvider;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.KafkaSinkBuilder;
import org.apache.flink.connector.kafka.sink.TransactionNamingStrategy;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.KafkaSourceBuilder;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Source and sink of every job, in bytes: nothing is decoded or copied that the Kafka client has not copied already. */
final class Topics {
    static final TypeInformation<ConsumerRecord<byte[], byte[]>> CONSUMED = TypeInformation.of(new TypeHint<>() {});
    static final TypeInformation<ProducerRecord<byte[], byte[]>> PRODUCED = TypeInformation.of(new TypeHint<>() {});

    private Topics() {}

    static KafkaSource<ConsumerRecord<byte[], byte[]>> source(Arguments arguments) {
        KafkaSourceBuilder<ConsumerRecord<byte[], byte[]>> builder = KafkaSource.<ConsumerRecord<byte[], byte[]>>builder()
            .setBootstrapServers(arguments.text("brokers"))
            .setTopics(arguments.text("source"))
            .setDeserializer(new AsConsumed())
            .setStartingOffsets(arguments.is("startup", "latest", "earliest") ? OffsetsInitializer.latest() : OffsetsInitializer.earliest())
            // A poll that gives ten times as many records as by default wakes the task thread ten times less.
            .setProperty("max.poll.records", "5000")
            // Four times the default, so that a fetch holds several batches of the producers that filled the topic.
            .setProperty("max.partition.fetch.bytes", "4194304")
            .setProperty("receive.buffer.bytes", "1048576")
            // The topics do not change while a job is measured, and nobody looks at its progress.
            .setProperty("partition.discovery.interval.ms", "-1")
            .setProperty("commit.offsets.on.checkpoint", "false");
        if (arguments.is("bounded", "true", "false")) {
            builder.setBounded(OffsetsInitializer.latest());
        }
        return builder.build();
    }

    static <T> KafkaSink<T> sink(Arguments arguments, KafkaRecordSerializationSchema<T> form) {
        Properties producer = new Properties();
        // Batches of 256 KiB instead of 16 KiB, and time to fill them: fewer requests and less work for the broker.
        producer.setProperty("batch.size", "262144");
        producer.setProperty("linger.ms", arguments.text("lingerMs"));
        // Twice the default, so that a slow answer of the broker does not stop the task thread.
        producer.setProperty("buffer.memory", "67108864");
        producer.setProperty("send.buffer.bytes", "1048576");
        producer.setProperty("compression.type", arguments.text("compression"));
        producer.setProperty("acks", "all");
        // Below the broker's limit of 15 minutes; the connector's default is above it.
        producer.setProperty("transaction.timeout.ms", "600000");
        boolean exactlyOnce = arguments.is("guarantee", "exactly-once", "at-least-once");
        KafkaSinkBuilder<T> builder = KafkaSink.<T>builder()
            .setBootstrapServers(arguments.text("brokers"))
            .setKafkaProducerConfig(producer)
            .setRecordSerializer(form)
            .setDeliveryGuarantee(exactlyOnce ? DeliveryGuarantee.EXACTLY_ONCE : DeliveryGuarantee.AT_LEAST_ONCE);
        if (exactlyOnce) {
            // The newer of the two strategies: producers and their transactional ids are used again.
            builder.setTransactionalIdPrefix("flink-" + arguments.text("target"))
                .setTransactionNamingStrategy(TransactionNamingStrategy.POOLING);
        }
        return builder.build();
    }

    static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }

    /** Emits what the Kafka client made, without another object. */
    static final class AsConsumed implements KafkaRecordDeserializationSchema<ConsumerRecord<byte[], byte[]>> {
        private static final long serialVersionUID = 1L;

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<ConsumerRecord<byte[], byte[]>> out) {
            out.collect(record);
        }

        @Override
        public TypeInformation<ConsumerRecord<byte[], byte[]>> getProducedType() {
            return CONSUMED;
        }
    }

    /** What the sink asks of every form when it pools transactional ids: which topic is written. */
    private abstract static class Form<T> implements KafkaRecordSerializationSchema<T>, KafkaDatasetFacetProvider {
        private static final long serialVersionUID = 1L;
        final String target;

        Form(String target) {
            this.target = target;
        }

        @Override
        public Optional<KafkaDatasetFacet> getKafkaDatasetFacet() {
            return Optional.of(new DefaultKafkaDatasetFacet(DefaultKafkaDatasetIdentifier.ofTopics(List.of(target))));
        }
    }

    /** Writes a record as it was read: to the same partition, with the same key, value, headers and timestamp. */
    static final class Copy extends Form<ConsumerRecord<byte[], byte[]>> {
        private static final long serialVersionUID = 1L;

        Copy(String target) {
            super(target);
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(ConsumerRecord<byte[], byte[]> r, KafkaSinkContext context, Long timestamp) {
            return new ProducerRecord<>(target, r.partition(), r.timestamp(), r.key(), r.value(), r.headers());
        }
    }

    /** Writes what an operator has made. */
    static final class AsMade extends Form<ProducerRecord<byte[], byte[]>> {
        private static final long serialVersionUID = 1L;

        AsMade(String target) {
            super(target);
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(ProducerRecord<byte[], byte[]> r, KafkaSinkContext context, Long timestamp) {
            return r;
        }
    }
}
