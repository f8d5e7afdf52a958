// npm basic-ftp: one session; it closes itself after an error, so each failure is followed by a new one.
const fs = require("node:fs");
const { Writable } = require("node:stream");
const { Client } = require("basic-ftp");

const env = (name) => process.env[`MATRIX_${name}`];
const IN = env("IN"), OUT = env("OUT");
const PART = 2 * 1024 * 1024 + 17;
let client;

async function connect() {
    if (client) client.close();
    client = new Client(30_000);
    client.ftp.verbose = true;
    const version = `TLSv${env("TLS")}`;
    await client.access({
        host: env("HOST"), port: Number(env("PORT")), user: env("USER"), password: env("PASSWORD"),
        secure: env("MODE") === "implicit" ? "implicit" : true,
        secureOptions: { ca: fs.readFileSync(env("CA")), minVersion: version, maxVersion: version,
            // It sends no SNI for an address; the certificate names the address.
            host: env("HOST") },
    });
}

async function step(name, action) {
    try {
        await action();
        console.log(`${name} ok`);
    } catch (error) {
        console.log(`${name} ${error.cannot ? "none" : "fail"} ${String(error.message).replace(/\s+/g, " ")}`);
        if (!error.cannot) await connect().catch((again) => console.log(`    ${again.message}`));
    }
}

const cannot = (why) => async () => { throw Object.assign(new Error(why), { cannot: true }); };
const put = (local, remote) => () => client.uploadFrom(`${IN}/${local}`, remote);
const rest = () => fs.createReadStream(`${IN}/medium.bin`, { start: PART });

async function list(name, command) {
    client.availableListCommands = [command];
    const files = await client.list("listed");
    fs.writeFileSync(`${OUT}/${name}.txt`, files.map((file) => file.name).join("\n"));
}

async function abort() {
    // It has no ABOR: the way to stop is to close the client and to connect anew.
    const sink = new Writable({ write(chunk, encoding, done) { client.close(); done(); } });
    await client.downloadTo(sink, "large.bin").then(
        () => { throw new Error("not cut short"); }, () => {});
    await connect();
    await client.pwd();
}

async function tour() {
    await step("login", connect);
    await step("mkdir", () => client.send("MKD made"));
    for (const name of ["small", "zero", "large"]) await step(name, put(`${name}.bin`, `made/${name}.bin`));
    await step("two", async () => {
        await put("medium.bin", "made/one.bin")();
        await put("small.bin", "made/two.bin")();
    });
    await step("get", () => client.downloadTo(`${OUT}/large.bin`, "large.bin"));
    await step("list", () => list("list", "LIST"));
    await step("nlst", cannot("basic-ftp never sends NLST"));
    await step("mlsd", () => list("mlsd", "MLSD"));
    await step("resume-get", () => client.downloadTo(
        fs.createWriteStream(`${OUT}/medium.bin`, { flags: "a" }), "medium.bin", PART));
    await step("resume-put", cannot("basic-ftp resumes uploads with APPE"));
    await step("append", () => client.appendFrom(rest(), "append.bin"));
    await step("rename", () => client.rename("rename-me", "made/renamed"));
    await step("time", () => client.send(`MFMT ${env("TIME")} made/small.bin`));
    await step("delete", () => client.remove("delete-me"));
    await step("rmdir", () => client.send("RMD remove-me"));
    await step("abort", abort);
    client.close();
}

async function uploads() {
    await connect();
    for (let number = 1; number <= 20; number++) {
        await put("medium.bin", `up-${String(number).padStart(2, "0")}.bin`)();
    }
    client.close();
}

(env("TASK") === "uploads" ? uploads() : tour()).catch((error) => {
    console.log(error);
    process.exitCode = 1;
});
