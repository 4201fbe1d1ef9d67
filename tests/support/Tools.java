import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command line tools one after the other in one process: starting a JVM for each takes longer than what they do.
 * Reads a line per tool, class and arguments divided by tabs; answers a line with exit code and the lengths of what the tool
 * wrote to stdout and stderr, then those bytes.
 */
public class Tools {
    /** A tool ends itself. Some catch this too, and complain: only what came before counts. */
    static class Exited extends Error {
        Exited() {
            super("exit", null, false, false);
        }
    }

    /** Exit code, and how much was written to stdout and stderr before. */
    static int[] end;

    public static void main(String[] none) throws Exception {
        PrintStream answers = System.out;
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ByteArrayOutputStream err = new ByteArrayOutputStream();
        System.setOut(new PrintStream(out, true));
        System.setErr(new PrintStream(err, true));
        Exit.Procedure exit = (code, message) -> {
            end = end == null ? new int[] {code, out.size(), err.size()} : end;
            throw new Exited();
        };
        Exit.setExitProcedure(exit);
        Exit.setHaltProcedure(exit);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split("\t");
            String[] arguments = new String[words.length - 1];
            System.arraycopy(words, 1, arguments, 0, arguments.length);
            out.reset();
            err.reset();
            end = null;
            int code = run(words[0], arguments);
            end = end == null ? new int[] {code, out.size(), err.size()} : end;
            answers.println(end[0] + " " + end[1] + " " + end[2]);
            answers.write(out.toByteArray(), 0, end[1]);
            answers.write(err.toByteArray(), 0, end[2]);
            answers.flush();
        }
    }

    static int run(String tool, String[] arguments) throws Exception {
        try {
            Class.forName(tool).getMethod("main", String[].class).invoke(null, (Object) arguments);
            return 0;
        } catch (InvocationTargetException thrown) {
            thrown.getCause().printStackTrace();
            return 1;
        }
    }
}
