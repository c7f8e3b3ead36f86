import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Branched;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Predicate;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyProcessorSupplier;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/** Writes what Kafka Streams says of the topologies that main.rs builds too, one file for each. */
public final class Describe {
    private static final Map<String, Consumer<StreamsBuilder>> SHAPES = Map.of(
        "linear", Describe::linear,
        "branching", Describe::branching,
        "nested", Describe::nested,
        "joined", Describe::joined,
        "linked", Describe::linked,
        "generated", Describe::generated,
        "merged-sources", Describe::mergedSources,
        "irregular", Describe::irregular,
        "looked-up", Describe::lookedUp,
        "table-first", Describe::tableFirst);

    private static final Predicate<String, String> SOME = (key, value) -> true;

    /** Stands for an asynchronous call. */
    private static final FixedKeyProcessorSupplier<String, String, String> CALL = () ->
        new ContextualFixedKeyProcessor<>() {
            @Override
            public void process(FixedKeyRecord<String, String> record) {
                context().forward(record);
            }
        };

    public static void main(String[] arguments) throws IOException {
        for (Map.Entry<String, Consumer<StreamsBuilder>> shape : SHAPES.entrySet()) {
            StreamsBuilder builder = new StreamsBuilder();
            shape.getValue().accept(builder);
            String description = builder.build().describe().toString();
            Files.writeString(Path.of(shape.getKey() + ".txt"), description);
        }
        Files.writeString(Path.of("empty.txt"), new StreamsBuilder().build().describe().toString());
    }

    private static void linear(StreamsBuilder builder) {
        source(builder, "in", "read")
            .mapValues(value -> value, Named.as("trim"))
            .flatMapValues(value -> List.of(value), Named.as("words"))
            .processValues(CALL, Named.as("look-up"))
            .to("out", Produced.as("write"));
    }

    /** The sizes of the branches differ, and names do not sort as they are declared. */
    private static void branching(StreamsBuilder builder) {
        source(builder, "in", "read")
            .split(Named.as("kind"))
            .branch(SOME, branch("-small", s -> s.foreach((k, v) -> { }, Named.as("drop"))))
            .branch(SOME, branch("-large", s -> s
                .mapValues(value -> value, Named.as("a-shorten"))
                .to("out", Produced.as("write"))))
            .defaultBranch(branch("-odd", s -> s.to("odd", Produced.as("a-write-odd"))));
    }

    private static void nested(StreamsBuilder builder) {
        source(builder, "in", "read")
            .split(Named.as("outer"))
            .branch(SOME, branch("-a", a -> a
                .split(Named.as("inner"))
                .branch(SOME, branch("-x", x -> x.to("x", Produced.as("write-x"))))
                .defaultBranch(branch("-y", y -> y.to("y", Produced.as("write-y"))))))
            .defaultBranch(branch("-b", b -> b
                .processValues(CALL, Named.as("call"))
                .foreach((k, v) -> { }, Named.as("count"))));
    }

    /** One operator below two branches, and one below two sources. */
    private static void joined(StreamsBuilder builder) {
        KStream<String, String> first = source(builder, "first", "z-first");
        Map<String, KStream<String, String>> branches = first
            .split(Named.as("kind"))
            .branch(SOME, Branched.as("-a"))
            .defaultBranch(Branched.as("-b"));
        branches.get("kind-a")
            .mapValues(value -> value, Named.as("mark"))
            .merge(branches.get("kind-b"), Named.as("both"))
            .merge(source(builder, "second", "a-second"), Named.as("all"))
            .mapValues(value -> value, Named.as("after"))
            .to("out", Produced.as("write"));
    }

    /** Sub-topologies that meet only in topics, one of them in a topic that it writes itself. */
    private static void linked(StreamsBuilder builder) {
        for (String name : List.of("z", "retry", "a")) {
            source(builder, name.equals("retry") ? "again" : name + "-events", name)
                .processValues(CALL, Named.as(name + "-call"))
                .split(Named.as(name + "-outcome"))
                .branch(SOME, branch("-done", s -> s.foreach((k, v) -> { }, Named.as(name + "-count"))))
                .branch(SOME, branch("-retry", s -> s.to("again", Produced.as(name + "-write-again"))))
                .defaultBranch(branch("-dead", s -> s.to("dead", Produced.as(name + "-write-dead"))));
        }
    }

    /** Every operator without a name, and some with one, which takes a number all the same. */
    private static void generated(StreamsBuilder builder) {
        builder.<String, String>stream("in")
            .mapValues(value -> value)
            .mapValues(value -> value, Named.as("named"))
            .flatMapValues(value -> List.of(value))
            .processValues(CALL)
            .split()
            .branch(SOME, Branched.withConsumer(s -> s.foreach((k, v) -> { })))
            .branch(SOME, branch("-named", s -> s.mapValues(value -> value).to("out")))
            .branch(SOME, Branched.withConsumer(s -> s
                .split(Named.as("inner"))
                .branch(SOME, Branched.withConsumer(x -> x.to("x")))
                .defaultBranch(branch("-y", y -> y.to("y", Produced.as("write-y"))))))
            .defaultBranch(Branched.withConsumer(s -> s.to("rest")));
    }

    /** Generated names, with a second digit, and sub-topologies that write into another's topic. */
    private static void mergedSources(StreamsBuilder builder) {
        KStream<String, String> left = builder.stream("left");
        left.merge(builder.stream("right")).foreach((k, v) -> { });
        for (int i = 0; i < 4; i++) {
            builder.<String, String>stream("in-" + i).mapValues(value -> value).to("left");
        }
    }

    /** A stream joined twice with a table that all instances have, whose numbers are generated too. */
    private static void lookedUp(StreamsBuilder builder) {
        KStream<String, String> stream = builder.<String, String>stream("in")
            .mapValues(value -> value);
        GlobalKTable<String, String> table = builder.globalTable("table");
        stream
            .leftJoin(table, (key, value) -> value, (value, found) -> value)
            .leftJoin(table, (key, value) -> value, (value, found) -> value, Named.as("again"))
            .mapValues(value -> value)
            .to("out", Produced.as("write"));
    }

    /** A table that is declared before the streams, of two sub-topologies, that are joined with it. */
    private static void tableFirst(StreamsBuilder builder) {
        GlobalKTable<String, String> table = builder.globalTable("table");
        for (String topic : List.of("z-in", "a-in")) {
            builder.<String, String>stream(topic)
                .leftJoin(table, (key, value) -> value, (value, found) -> value)
                .mapValues(value -> value)
                .to("out");
        }
    }

    /** Two hundred steps by a generator of numbers that main.rs has too. */
    private static void irregular(StreamsBuilder builder) {
        Numbers numbers = new Numbers();
        List<KStream<String, String>> open = new ArrayList<>();
        for (int step = 0; step < 200; step++) {
            int choice = open.isEmpty() ? 0 : numbers.below(10);
            if (choice == 0) {
                open.add(builder.stream("topic-" + step));
                continue;
            }
            KStream<String, String> stream = open.remove(numbers.below(open.size()));
            switch (choice) {
                case 1, 2 -> open.add(stream.mapValues(value -> value));
                case 3 -> open.add(stream.processValues(CALL));
                case 4, 5, 6 -> stream.split()
                    .branch(SOME, Branched.withConsumer(open::add))
                    .defaultBranch(Branched.withConsumer(open::add));
                case 7, 8 -> open.add(open.isEmpty()
                    ? stream.flatMapValues(value -> List.of(value))
                    : stream.merge(open.remove(numbers.below(open.size()))));
                default -> stream.to("topic-" + numbers.below(200));
            }
        }
        open.forEach(stream -> stream.foreach((k, v) -> { }));
    }

    private static final class Numbers {
        private long state = 4;

        int below(int bound) {
            state = (state * 1_103_515_245 + 12_345) % (1L << 31);
            return (int) (state >> 16) % bound;
        }
    }

    private static KStream<String, String> source(StreamsBuilder builder, String topic, String name) {
        return builder.stream(topic, Consumed.as(name));
    }

    private static Branched<String, String> branch(
        String suffix, Consumer<KStream<String, String>> then) {
        return Branched.withConsumer(then::accept, suffix);
    }
}
