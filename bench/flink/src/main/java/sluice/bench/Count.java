package sluice.bench;

import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Counts by key and emits the new count for each record, with the record's timestamp. */
final class Count extends KeyedProcessFunction<String, String, ProducerRecord<byte[], byte[]>> {
    private static final long serialVersionUID = 1L;
    private final String target;
    private transient ValueState<Long> count;

    Count(String target) {
        this.target = target;
    }

    @Override
    public void open(OpenContext context) {
        count = getRuntimeContext().getState(new ValueStateDescriptor<>("count", Long.class));
    }

    @Override
    public void processElement(String key, Context context, Collector<ProducerRecord<byte[], byte[]>> out) throws Exception {
        Long before = count.value();
        long now = before == null ? 1 : before + 1;
        count.update(now);
        out.collect(new ProducerRecord<>(target, null, context.timestamp(), Topics.ascii(key), Topics.ascii(Long.toString(now))));
    }
}
