package sluice.bench;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** The jobs of the benchmark: reads one topic and writes another. */
public final class Job {
    private Job() {}

    /** Arguments: see Arguments and bench/rivals/flink/job.go. */
    public static void main(String[] args) throws Exception {
        Arguments arguments = new Arguments(args);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment(configuration(arguments));
        env.setParallelism(arguments.number("parallelism"));
        DataStream<ConsumerRecord<byte[], byte[]>> in = env.fromSource(Topics.source(arguments), WatermarkStrategy.noWatermarks(), "in");
        build(arguments, in);
        env.execute("bench-" + arguments.text("kind"));
    }

    private static void build(Arguments arguments, DataStream<ConsumerRecord<byte[], byte[]>> in) {
        String target = arguments.text("target");
        switch (arguments.text("kind")) {
            case "pass" -> in.sinkTo(Topics.sink(arguments, new Topics.Copy(target)));
            case "filter" -> in.filter(new Filter(arguments.text("prefix"))).sinkTo(Topics.sink(arguments, new Topics.Copy(target)));
            case "json" -> in.flatMap(new Shorten(target)).returns(Topics.PRODUCED).sinkTo(Topics.sink(arguments, new Topics.AsMade(target)));
            // Only the key travels between task managers; a timestamp goes with every element of Flink.
            case "count" -> in.map(r -> new String(r.key(), StandardCharsets.ISO_8859_1)).returns(Types.STRING)
                .keyBy(key -> key, Types.STRING)
                .process(new Count(target), Topics.PRODUCED)
                .sinkTo(Topics.sink(arguments, new Topics.AsMade(target)));
            default -> throw new IllegalArgumentException("argument kind: " + arguments.text("kind") + " is not known");
        }
    }

    private static Configuration configuration(Arguments arguments) {
        Configuration configuration = new Configuration();
        // Records go from operator to operator without a copy: no job keeps one.
        configuration.set(PipelineOptions.OBJECT_REUSE, true);
        // State on the heap is the fastest that Flink has.
        configuration.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        int intervalMs = arguments.number("intervalMs");
        if (intervalMs > 0) {
            configuration.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, Duration.ofMillis(intervalMs));
            configuration.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
            configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, arguments.text("checkpoints"));
            // At-least-once needs no barriers that wait for each other.
            configuration.set(CheckpointingOptions.CHECKPOINTING_CONSISTENCY_MODE,
                arguments.is("guarantee", "exactly-once", "at-least-once") ? CheckpointingMode.EXACTLY_ONCE : CheckpointingMode.AT_LEAST_ONCE);
        }
        return configuration;
    }
}
