package sluice.bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonFactoryBuilder;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFlatMapFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Parses a JSON object, keeps those whose status is below 500 and writes a shorter object. Jackson's streaming parser is
 * used, which makes no tree and is the fastest way it has; parser and generator know nothing of the order of the fields.
 */
final class Shorten extends RichFlatMapFunction<ConsumerRecord<byte[], byte[]>, ProducerRecord<byte[], byte[]>> {
    private static final long serialVersionUID = 1L;
    private static final int KEPT_BELOW = 500;
    private static final int LATE_ABOVE_MS = 250;

    private final String target;
    private transient JsonFactory factory;
    private transient ByteArrayOutputStream written;
    private transient JsonGenerator generator;

    Shorten(String target) {
        this.target = target;
    }

    @Override
    public void open(OpenContext context) throws IOException {
        // One generator writes all objects: nothing stands between two of them.
        factory = new JsonFactoryBuilder().rootValueSeparator((String) null).build();
        written = new ByteArrayOutputStream(256);
        generator = factory.createGenerator(written);
    }

    @Override
    public void close() throws IOException {
        if (generator != null) {
            generator.close();
        }
    }

    @Override
    public void flatMap(ConsumerRecord<byte[], byte[]> record, Collector<ProducerRecord<byte[], byte[]>> out) throws IOException {
        int status = 0;
        int durationMs = 0;
        String region = null;
        String seq = null;
        try (JsonParser parser = factory.createParser(record.value())) {
            if (parser.nextToken() != JsonToken.START_OBJECT) {
                throw new IOException("partition " + record.partition() + ", offset " + record.offset() + ": the value is no JSON object");
            }
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                parser.nextToken();
                switch (name) {
                    case "status" -> status = parser.getIntValue();
                    case "durationMs" -> durationMs = parser.getIntValue();
                    case "region" -> region = parser.getText();
                    case "seq" -> seq = parser.getText();
                    default -> parser.skipChildren();
                }
            }
        }
        if (status < KEPT_BELOW) {
            out.collect(new ProducerRecord<>(target, record.partition(), record.timestamp(), record.key(), shortened(durationMs, region, seq), record.headers()));
        }
    }

    private byte[] shortened(int durationMs, String region, String seq) throws IOException {
        generator.writeStartObject();
        generator.writeNumberField("durationMs", durationMs);
        generator.writeBooleanField("late", durationMs > LATE_ABOVE_MS);
        generator.writeStringField("region", region);
        generator.writeStringField("seq", seq);
        generator.writeEndObject();
        generator.flush();
        byte[] value = written.toByteArray();
        written.reset();
        return value;
    }
}
