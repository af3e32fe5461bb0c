// Flink SQL: look-ups per actor over ten minutes, in windows that begin every minute. One slot, as ours is one thread.

import org.apache.flink.configuration.Configuration;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

public final class HopCount {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setString("parallelism.default", "1");
    configuration.setString("table.exec.mini-batch.enabled", "false");
    TableEnvironment tables = TableEnvironment.create(
        EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(configuration).build());
    tables.executeSql(
        "CREATE TABLE events (actor STRING, action STRING, `time` TIMESTAMP_LTZ(3),"
            + " WATERMARK FOR `time` AS `time` - INTERVAL '10' SECOND)"
            + " WITH ('connector' = 'filesystem', 'path' = '" + arguments[0] + "', 'format' = 'json',"
            + " 'json.timestamp-format.standard' = 'ISO-8601')");
    tables.executeSql(
        "CREATE TABLE findings (actor STRING, window_end TIMESTAMP(3), looks BIGINT) WITH ('connector' = 'blackhole')");
    tables.executeSql(
        "INSERT INTO findings SELECT actor, window_end, COUNT(*)"
            + " FROM HOP(TABLE events, DESCRIPTOR(`time`), INTERVAL '1' MINUTE, INTERVAL '10' MINUTE)"
            + " WHERE action = 'read' GROUP BY actor, window_start, window_end HAVING COUNT(*) >= 200").await();
  }
}
