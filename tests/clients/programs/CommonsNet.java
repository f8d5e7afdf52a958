import java.io.ByteArrayInputStream;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.commons.net.PrintCommandListener;
import org.apache.commons.net.ftp.FTP;
import org.apache.commons.net.ftp.FTPFile;
import org.apache.commons.net.ftp.FTPSClient;
import javax.net.ssl.TrustManagerFactory;

/** commons-net's FTPSClient: one session; it never resumes TLS sessions (NET-408). */
public class CommonsNet {
    interface Action { void run() throws Exception; }

    static class Cannot extends Exception {
        Cannot(String why) { super(why); }
    }

    static final String IN = env("IN"), OUT = env("OUT");
    static final int PART = 2 * 1024 * 1024 + 17;
    static FTPSClient ftp;

    static String env(String name) { return System.getenv("MATRIX_" + name); }

    static void connect() throws Exception {
        ftp = new FTPSClient("TLS", env("MODE").equals("implicit"));
        ftp.addProtocolCommandListener(new PrintCommandListener(new PrintWriter(System.out), true));
        ftp.setTrustManager(trust());
        ftp.setDefaultTimeout(30_000);
        ftp.setDataTimeout(30_000);
        ftp.setControlEncoding("UTF-8");
        ftp.connect(env("HOST"), Integer.parseInt(env("PORT")));
        must(ftp.login(env("USER"), env("PASSWORD")));
        // Without these two every data connection is in the clear, in implicit mode too.
        ftp.execPBSZ(0);
        ftp.execPROT("P");
        // The defaults are active mode and ASCII.
        ftp.enterLocalPassiveMode();
        must(ftp.setFileType(FTP.BINARY_FILE_TYPE));
    }

    static javax.net.ssl.TrustManager trust() throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null);
        try (InputStream file = new FileInputStream(env("CA"))) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        factory.init(store);
        return factory.getTrustManagers()[0];
    }

    static void must(boolean done) throws IOException {
        if (!done) throw new IOException(ftp.getReplyString());
    }

    static void step(String name, Action action) {
        try {
            action.run();
            System.out.println(name + " ok");
        } catch (Cannot why) {
            System.out.println(name + " none " + why.getMessage());
        } catch (Exception error) {
            System.out.println(name + " fail " + String.valueOf(error).replaceAll("\\s+", " "));
            try {
                connect();
            } catch (Exception again) {
                System.out.println("    " + again);
            }
        }
    }

    static void put(String local, String remote) throws IOException {
        try (InputStream file = new FileInputStream(IN + "/" + local)) {
            must(ftp.storeFile(remote, file));
        }
    }

    static InputStream rest() throws IOException {
        byte[] whole = Files.readAllBytes(Path.of(IN, "medium.bin"));
        return new ByteArrayInputStream(Arrays.copyOfRange(whole, PART, whole.length));
    }

    static void names(String name, List<String> names) throws IOException {
        Files.write(Path.of(OUT, name + ".txt"), names);
    }

    static List<String> namesOf(FTPFile[] files) {
        List<String> names = new ArrayList<>();
        for (FTPFile file : files) names.add(file.getName());
        return names;
    }

    static void abort() throws Exception {
        InputStream data = ftp.retrieveFileStream("large.bin");
        must(data != null && data.readNBytes(65_536).length == 65_536);
        // abort() reads one reply, 426; the 226 behind it is read by completePendingCommand().
        ftp.abort();
        data.close();
        ftp.completePendingCommand();
        must(ftp.printWorkingDirectory() != null);
    }

    public static void main(String[] arguments) throws Exception {
        if (env("TASK").equals("uploads")) {
            connect();
            for (int number = 1; number <= 20; number++) {
                put("medium.bin", String.format("up-%02d.bin", number));
            }
            ftp.logout();
            return;
        }
        step("login", CommonsNet::connect);
        step("mkdir", () -> must(ftp.makeDirectory("made")));
        for (String name : new String[] {"small", "zero", "large"}) {
            step(name, () -> put(name + ".bin", "made/" + name + ".bin"));
        }
        step("two", () -> {
            put("medium.bin", "made/one.bin");
            put("small.bin", "made/two.bin");
        });
        step("get", () -> {
            try (OutputStream file = new FileOutputStream(OUT + "/large.bin")) {
                must(ftp.retrieveFile("large.bin", file));
            }
        });
        step("list", () -> names("list", namesOf(ftp.listFiles("listed"))));
        step("nlst", () -> names("nlst", Arrays.asList(ftp.listNames("listed"))));
        step("mlsd", () -> names("mlsd", namesOf(ftp.mlistDir("listed"))));
        step("resume-get", () -> {
            ftp.setRestartOffset(PART);
            try (OutputStream file = new FileOutputStream(OUT + "/medium.bin", true)) {
                must(ftp.retrieveFile("medium.bin", file));
            }
        });
        step("resume-put", () -> {
            ftp.setRestartOffset(PART);
            must(ftp.storeFile("resume.bin", rest()));
        });
        step("append", () -> must(ftp.appendFile("append.bin", rest())));
        step("rename", () -> must(ftp.rename("rename-me", "made/renamed")));
        step("time", () -> must(ftp.setModificationTime("made/small.bin", env("TIME"))));
        step("delete", () -> must(ftp.deleteFile("delete-me")));
        step("rmdir", () -> must(ftp.removeDirectory("remove-me")));
        step("abort", CommonsNet::abort);
        ftp.logout();
        ftp.disconnect();
    }
}
