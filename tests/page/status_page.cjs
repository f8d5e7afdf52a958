// The status page in a real Chromium. Called by tests/integration/page.rs:
//
//   node status_page.cjs URL TOKEN DIRECTORY REFERENCE
//
// Says what it has seen line by line on standard output; the test does the FTP side of each step. A
// failed check ends it with a message and status 1. Screenshots go to DIRECTORY.
"use strict";

const assert = require("node:assert/strict");
const path = require("node:path");
const readline = require("node:readline");
const { chromium } = require("playwright-core");

const [url, token, directory, reference] = process.argv.slice(2);
const HOSTILE_FILE = '/<img src=x onerror="window.pwned=1">';
const HOSTILE_USER = "<script>window.pwned=1<b>";
const LIMIT = { timeout: 30000 };

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Tells the test, and waits until it has done its part. */
async function step(word) {
  console.log(word);
  const { value, done } = await answers.next();
  assert(!done && value === "go", `the test answered ${value}`);
}

async function main() {
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-gpu", "--no-first-run"],
  });
  try {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
    const page = await context.newPage();
    const foreign = [];
    const errors = [];
    page.on("request", (request) => {
      if (!request.url().startsWith(url) && !request.url().startsWith("data:")) foreign.push(request.url());
    });
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("dialog", (dialog) => {
      errors.push(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });

    await page.goto(url);
    await page.fill("#token", "not the token at all");
    await page.click("#login button");
    await page.waitForSelector("#refused:not([hidden])", LIMIT);
    await page.screenshot({ path: path.join(directory, "login.png") });
    await page.fill("#token", token);
    await page.click("#login button");
    await page.waitForSelector("#live", LIMIT);
    const cookies = await context.cookies();
    assert.equal(cookies.length, 1);
    assert.equal(cookies[0].httpOnly, true);
    assert.equal(cookies[0].sameSite, "Strict");
    // The cookie shows the page, and is no key to the API.
    assert.equal((await context.request.get(`${url}api/v1/sessions`)).status(), 401);

    const rows = page.locator("table.rows");
    // Of the transfers: the failure of another file stands in a table of its own.
    const upload = page.locator("tr", { hasText: HOSTILE_FILE, has: page.locator(".moved") });
    await upload.first().waitFor(LIMIT);
    await page.locator("body", { hasText: HOSTILE_USER }).waitFor(LIMIT);
    const moved = () => upload.first().locator(".moved").innerText();
    const before = await moved();
    await step("more");
    // Asked from outside: the page's policy lets nobody evaluate a condition inside.
    const end = Date.now() + LIMIT.timeout;
    while ((await moved()) === before) {
      assert(Date.now() < end, `still ${before}`);
      await page.waitForTimeout(50);
    }
    console.log(`moved ${before} ${await moved()}`);

    // Names are text and nothing else.
    assert.equal(await page.locator("#live img, #live script").count(), 0, "a name became an element");
    // A script that got into the page after all would not run.
    const inline = await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "window.inline = 1";
      document.body.append(script);
      return window.inline;
    });
    assert.equal(inline, undefined, "an inline script ran");
    assert(await rows.count() > 1);

    await step("shots");
    await page.waitForSelector(".area", { state: "attached", ...LIMIT });
    for (const [name, width, height, colorScheme] of [
      ["wide", 1280, 900, "light"],
      ["wide-dark", 1280, 900, "dark"],
      ["phone", 390, 844, "light"],
      ["phone-dark", 390, 844, "dark"],
    ]) {
      await page.emulateMedia({ colorScheme });
      await page.setViewportSize({ width, height });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert(over <= 0, `${name}: ${over} pixels too wide`);
      await page.screenshot({ path: path.join(directory, `${name}.png`), fullPage: true });
    }

    // A failure is found by what the client was told.
    await page.locator("tr", { hasText: reference }).first().waitFor(LIMIT);

    // Both bans are there, the user's by its name, and can be lifted.
    for (const who of ["address:192.0.2.66", HOSTILE_USER]) {
      const ban = page.locator("tr", { hasText: who, has: page.locator("[data-lift]") });
      await ban.locator("[data-lift]").click(LIMIT);
      assert((await page.locator("#question").innerText()).includes(who));
      await page.click('#confirm button[value="yes"]');
      await ban.waitFor({ state: "detached", ...LIMIT });
    }
    await page.locator("#live", { hasText: "Nobody is banned." }).waitFor(LIMIT);
    await step("lifted");

    // Leaving it does nothing, ending it ends it.
    await upload.first().locator("[data-kick]").click();
    await page.click('#confirm button[value="no"]');
    await upload.first().locator("[data-kick]").click();
    await page.screenshot({ path: path.join(directory, "confirm.png") });
    assert((await page.locator("#question").innerText()).includes("alice"));
    await page.click('#confirm button[value="yes"]');
    await step("kicked");
    await upload.first().waitFor({ state: "detached", ...LIMIT });

    // Without the value that stands in the page the cookie changes nothing.
    const bare = await context.request.post(`${url}page/sessions/00000000/kick`);
    assert.equal(bare.status(), 403);

    assert.equal(await page.evaluate(() => window.pwned), undefined, "a name ran as script");
    assert.deepEqual(foreign, []);
    assert.deepEqual(errors, []);
    await page.click("#logout");
    await page.waitForSelector("#login", LIMIT);
    assert.equal((await context.request.get(`${url}page/live`)).status(), 401);
    console.log("done");
  } finally {
    await browser.close();
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
