// Kafka Streams: look-ups per actor over ten minutes, in windows that begin every minute, on two threads.
//
// The topic is keyed by actor, so nothing is repartitioned. Prints events a second, from the first to the last.

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.time.Duration;
import java.time.Instant;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.TimeWindows;

public final class HopCount {
  private static final ObjectMapper JSON = new ObjectMapper();

  private static long timeOf(byte[] event) {
    try {
      return Instant.parse(JSON.readTree(event).get("time").asText()).toEpochMilli();
    } catch (IOException exception) {
      throw new UncheckedIOException(exception);
    }
  }

  public static void main(String[] arguments) throws Exception {
    String topic = arguments[1];
    long events = Long.parseLong(arguments[2]);
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[3]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("streams").toString());
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    settings.put("auto.offset.reset", "earliest");

    AtomicLong seen = new AtomicLong();
    AtomicLong begun = new AtomicLong();
    CountDownLatch done = new CountDownLatch(1);
    StreamsBuilder builder = new StreamsBuilder();
    builder.stream(
            topic,
            Consumed.with(Serdes.String(), Serdes.ByteArray())
                .withTimestampExtractor((record, before) -> timeOf((byte[]) record.value())))
        .peek(
            (key, value) -> {
              begun.compareAndSet(0, System.nanoTime());
              if (seen.incrementAndGet() == events) {
                done.countDown();
              }
            })
        .groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
        .windowedBy(
            TimeWindows.ofSizeAndGrace(Duration.ofMinutes(10), Duration.ofSeconds(10)).advanceBy(Duration.ofMinutes(1)))
        .count();
    try (KafkaStreams streams = new KafkaStreams(builder.build(), settings)) {
      streams.start();
      done.await();
      System.out.println(events * 1e9 / (System.nanoTime() - begun.get()));
    }
  }
}
