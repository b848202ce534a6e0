package sluice.bench;

import java.util.Arrays;
import org.apache.flink.api.common.functions.FilterFunction;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** Keeps the records whose value begins with a prefix. It compares bytes: no text is made. */
final class Filter implements FilterFunction<ConsumerRecord<byte[], byte[]>> {
    private static final long serialVersionUID = 1L;
    private final byte[] prefix;

    Filter(String prefix) {
        this.prefix = Topics.ascii(prefix);
    }

    @Override
    public boolean filter(ConsumerRecord<byte[], byte[]> record) {
        byte[] value = record.value();
        return value != null && value.length >= prefix.length && Arrays.equals(value, 0, prefix.length, prefix, 0, prefix.length);
    }
}
