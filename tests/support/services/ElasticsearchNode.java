import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.Set;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.env.Environment;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.plugins.PluginsLoader;

/**
 * Starts one Elasticsearch node, for the tests: HOME DATA NAME SETTING=VALUE ...
 *
 * Maven Central has the server and its HTTP transport, and not the distribution whose scripts would start them.
 */
class ElasticsearchNode {
    public static void main(String[] arguments) throws Exception {
        Path home = Path.of(arguments[0]);
        String name = arguments[2];
        Settings.Builder settings = Settings.builder()
            .put("path.home", home)
            .put("path.data", arguments[1])
            .put("path.logs", arguments[1])
            .put("cluster.name", "chatsystem-tests")
            .put("node.name", name)
            .put("network.host", "127.0.0.1")
            // A nearly full disk would make indexes read-only.
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
        for (String each : Arrays.asList(arguments).subList(3, arguments.length)) {
            String[] pair = each.split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        LogConfigurator.configureESLogging();
        LogConfigurator.setNodeName(name);
        LogConfigurator.registerErrorListener();
        Environment environment = InternalSettingsPreparer.prepareEnvironment(
            settings.build(), Map.of(), home.resolve("config"), () -> name);
        LogConfigurator.configure(environment, true);
        PluginsLoader loader = PluginsLoader.createPluginsLoader(
            PluginsLoader.loadModulesBundles(environment.modulesDir()), Set.of(), Map.of());
        new Node(environment, loader).start();
        // All of the node's threads are daemons.
        Thread.currentThread().join();
    }
}
