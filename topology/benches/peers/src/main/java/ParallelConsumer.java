import io.confluent.parallelconsumer.ParallelConsumerOptions;
import io.confluent.parallelconsumer.ParallelConsumerOptions.CommitMode;
import io.confluent.parallelconsumer.ParallelConsumerOptions.ProcessingOrder;
import io.confluent.parallelconsumer.ParallelStreamProcessor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Handles all records of a topic with Confluent's Parallel Consumer, commits, and prints one line of
 * JSON: the report that the benchmark's own processes print (`topology/benches/engine/tally.rs`).
 */
public final class ParallelConsumer {
  private static final int PARTITIONS = 8;
  private static final int TENTHS = 10;
  private static final long POLL_MS = 5;
  /** The unit of `/proc/<pid>/stat`. */
  private static final long TICK_US = 10_000;

  private final long records;
  private final long waitMs;
  private final String broker;
  /** A byte each: threads that mark neighbours do not disturb one another. */
  private final boolean[][] seen;
  private final LongAdder handled = new LongAdder();
  private final LongAdder waitedNs = new LongAdder();

  private ParallelConsumer(long records, long waitMs, String broker) {
    this.records = records;
    this.waitMs = waitMs;
    this.broker = broker;
    this.seen = new boolean[PARTITIONS][(int) (records / PARTITIONS)];
  }

  public static void main(String[] words) throws Exception {
    var run = new ParallelConsumer(Long.parseLong(words[6]), Long.parseLong(words[5]), words[7]);
    var options =
        ParallelConsumerOptions.<String, byte[]>builder()
            .consumer(consumer(words[0], words[2]))
            .ordering(ProcessingOrder.valueOf(words[3]))
            .maxConcurrency(Integer.parseInt(words[4]))
            .commitMode(CommitMode.PERIODIC_CONSUMER_ASYNCHRONOUS)
            .build();
    var processor = ParallelStreamProcessor.createEosStreamProcessor(options);
    processor.subscribe(List.of(words[1]));
    processor.poll(
        context -> run.handle(context.getSingleConsumerRecord().partition(), context.offset()));
    List<String> samples = run.watch();
    processor.closeDrainFirst();
    System.out.println(run.report(samples));
    System.exit(0);
  }

  /** Keys are text: those of byte arrays are all different to it, and key order would cost nothing. */
  private static KafkaConsumer<String, byte[]> consumer(String servers, String group) {
    return new KafkaConsumer<>(
        Map.of(
            "bootstrap.servers", servers,
            "group.id", group,
            "enable.auto.commit", "false",
            "auto.offset.reset", "earliest"),
        new StringDeserializer(),
        new ByteArrayDeserializer());
  }

  private void handle(int partition, long offset) {
    if (waitMs > 0) {
      long begun = System.nanoTime();
      try {
        Thread.sleep(waitMs);
      } catch (InterruptedException interrupted) {
        throw new IllegalStateException(interrupted);
      }
      waitedNs.add(System.nanoTime() - begun);
    }
    seen[partition][(int) offset] = true;
    handled.increment();
  }

  /** Looks on until as many records are handled as there are. */
  private List<String> watch() throws Exception {
    long begun = System.nanoTime();
    var samples = new ArrayList<String>();
    while (true) {
      long count = handled.sum();
      if (count >= (samples.size() + 1) * records / TENTHS) {
        samples.add(sample((System.nanoTime() - begun) / 1_000, Math.min(count, records)));
      }
      if (count >= records) {
        return samples;
      }
      Thread.sleep(POLL_MS);
    }
  }

  private String sample(long atUs, long count) throws IOException {
    String own = Long.toString(ProcessHandle.current().pid());
    return String.format(
        Locale.ROOT,
        "{\"at_us\":%d,\"seen\":%d,\"cpu_us\":%d,\"broker_us\":%d,\"machine_us\":%d,\"rss_mib\":%f}",
        atUs,
        count,
        cpuUs(own),
        broker.isEmpty() ? 0 : cpuUs(broker),
        machineUs(),
        memoryMib("VmRSS:"));
  }

  private String report(List<String> samples) throws IOException {
    long distinct = 0;
    for (boolean[] partition : seen) {
      for (boolean one : partition) {
        distinct += one ? 1 : 0;
      }
    }
    if (distinct != records) {
      throw new IllegalStateException(distinct + " of " + records + " records were handled");
    }
    return String.format(
        Locale.ROOT,
        "{\"samples\":[%s],\"peak_mib\":%f,\"repeats\":%d,\"handler_us\":%f}",
        String.join(",", samples),
        memoryMib("VmHWM:"),
        handled.sum() - records,
        waitedNs.sum() / 1e3 / handled.sum());
  }

  private static long cpuUs(String process) throws IOException {
    String stat = Files.readString(Path.of("/proc", process, "stat"));
    // The name in parentheses is the second field; the times are the 14th and 15th.
    String[] fields = stat.substring(stat.lastIndexOf(") ") + 2).split(" ");
    return (Long.parseLong(fields[11]) + Long.parseLong(fields[12])) * TICK_US;
  }

  private static long machineUs() throws IOException {
    String line = Files.readAllLines(Path.of("/proc/stat")).get(0);
    long[] fields =
        Arrays.stream(line.split(" +")).skip(1).mapToLong(Long::parseLong).toArray();
    // user, nice, system, idle, iowait, irq, softirq, steal; guests are counted as users.
    long used = fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7];
    return used * TICK_US;
  }

  private static double memoryMib(String name) throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith(name)) {
        return Double.parseDouble(line.replaceAll("\\D", "")) / 1_024;
      }
    }
    throw new IOException("the kernel does not tell " + name);
  }
}
