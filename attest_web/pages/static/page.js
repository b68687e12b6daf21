/** Connects the page's forms with the checks. */

import { checkReport, sameMeasurements } from "./attestation.js";
import { hasCrypto, toHex } from "./bytes.js";
import { FailedError, failures, printable } from "./checks.js";
import { checkExchange } from "./exchange.js";
import { ask, SettledError } from "./server.js";

const ALGOS = ["ecdsa", "ed25519"];
const REPORT_SECONDS = 100; // the server gives up after 90
const SIGNATURE_SECONDS = 20;
const MARKS = { holds: "✓", fails: "✗", "not made": "–" };
const REGISTERS = [
  ["MRTD", "the firmware that the TD began with"],
  ["RTMR0", "how that was configured"],
  ["RTMR1", "the kernel"],
  ["RTMR2", "its command line and first file system"],
  ["RTMR3", "the app: its compose file and its keys"],
];

const BRIEFLY = {
  exchange: {
    true: "✓ The answer is the one that was signed, for the request that was signed.",
    false: "✗ The answer or its signature is not valid.",
    null: "– Not everything about the answer could be checked.",
    unknown: "✗ The answer could not be checked.",
  },
  attestation: {
    false: "✗ The attestation does not hold.",
    null: "– The attestation holds as far as a browser can check it; tee-verify checks the rest.",
    simulated: "– Development run: the hardware is simulated, so the keys are not attested.",
    unknown: "✗ The attestation could not be checked.",
  },
};

const byId = (id) => document.getElementById(id);
const { model, dev: inDevelopment, ...addresses } = document.body.dataset;
const dev = inDevelopment !== undefined;
let attested = null;

byId("insecure").hidden = hasCrypto;

/** The line at the top of the page: the outcome of each panel, in short. */
class Summary {
  #unchecked = { exchange: "No answer has been checked yet.", attestation: "The attestation has not been checked yet." };
  #found = {};

  /**
   * @param {"exchange" | "attestation"} name
   * @param {{holds: boolean | null, brief: string} | null} found - null: no outcome, or the outcome was cleared.
   */
  show(name, found) {
    this.#found[name] = found;
    const parts = Object.keys(this.#unchecked).map((each) => this.#found[each]?.brief ?? this.#unchecked[each]);
    const outcomes = Object.values(this.#found).map((each) => each?.holds);
    const line = byId("summary");
    line.textContent = parts.join(" ");
    line.classList.toggle("fails", outcomes.includes(false));
    line.classList.toggle("holds", this.#found.exchange?.holds === true && !outcomes.includes(false));
  }
}

/** One form with its results, which are always those of the last request. */
class Panel {
  #name;
  #summary;
  #running = new AbortController();
  #urls = [];

  constructor(name, summary, run) {
    this.#name = name;
    this.#summary = summary;
    const form = byId(`${name}-form`);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start(run);
    });
    for (const change of ["input", "reset"]) form.addEventListener(change, () => this.#clear());
  }

  async #start(run) {
    this.#clear();
    const { signal } = this.#running;
    this.#say({ holds: null, text: "Checking…" });
    let result;
    try {
      result = await run(signal);
    } catch (error) {
      const detail = error instanceof FailedError ? error.message : `${error.name} in this page`;
      const text = error instanceof SettledError ? `✗ ${detail}` : `✗ This cannot be checked: ${detail}`;
      result = { checks: [], verdict: { holds: false, text, brief: BRIEFLY[this.#name].unknown } };
    }
    if (signal.aborted) return;
    byId(`${this.#name}-checks`).replaceChildren(...result.checks.map(shownCheck));
    result.more?.((name, content) => this.#download(name, content));
    byId(`${this.#name}-more`).hidden = !result.more;
    this.#say(result.verdict);
    this.#summary.show(this.#name, result.verdict);
  }

  #clear() {
    this.#running.abort();
    this.#running = new AbortController();
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    byId(`${this.#name}-checks`).replaceChildren();
    byId(`${this.#name}-more`).hidden = true;
    this.#say({ holds: null, text: "" });
    this.#summary.show(this.#name, null);
  }

  #say({ holds, text }) {
    const verdict = byId(`${this.#name}-verdict`);
    verdict.classList.toggle("holds", holds === true);
    verdict.classList.toggle("fails", holds === false);
    verdict.textContent = printable(text);
  }

  #download(name, content) {
    const url = URL.createObjectURL(new Blob([content], { type: "application/json" }));
    this.#urls.push(url);
    return element("a", { href: url, download: name }, name);
  }
}

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shownCheck({ name, status, detail }) {
  const attributes = { class: status.replace(" ", "-") };
  const found = element("span", {}, element("b", {}, name), `: ${printable(detail)}`);
  return element("li", attributes, element("span", { class: "mark" }, `${MARKS[status]} ${status}`), " ", found);
}

function asForBoth(path, seconds, signal) {
  const token = byId("token").value.trim();
  return Promise.all(ALGOS.map((algo) => ask(path(algo), { token, seconds, signal })));
}

async function checkAttestation(signal) {
  attested = null;
  const nonce = toHex(crypto.getRandomValues(new Uint8Array(32)));
  const query = (algo) => `v1/attestation/report?signing_algo=${algo}&nonce=${nonce}`;
  const reports = await asForBoth(query, REPORT_SECONDS, signal);
  const found = await Promise.all(
    ALGOS.map((algo, number) => checkReport(algo, reports[number], { nonce, address: addresses[algo], dev })),
  );
  const quotes = found.map(({ quote }) => quote);
  const checks = [...found.flatMap((each) => each.checks), await sameMeasurements(quotes)];
  signal.throwIfAborted();
  attested = Object.fromEntries(ALGOS.map((algo, number) => [algo, found[number].binds]));
  const verdict = attestationVerdict(failures(checks));
  return { checks, verdict, more: (download) => showReports(download, reports, quotes[0], nonce) };
}

function attestationVerdict(failed) {
  const brief = BRIEFLY.attestation;
  const failing = `This does not hold: ${failed.join(", ")}.`;
  if (dev) {
    const rest = failed.length ? failing : "The rest holds.";
    const text = `– Development run: the hardware is simulated, so this proves nothing. ${rest}`;
    return { holds: null, text, brief: brief.simulated };
  }
  if (failed.length) return { holds: false, text: `✗ ${failing}`, brief: brief.false };
  const text =
    "✓ What a browser can check holds. It is proof once Intel's signature and the rest are checked, too: see below.";
  return { holds: null, text, brief: brief.null };
}

function showReports(download, reports, quote, nonce) {
  const rows = REGISTERS.map(([name, meaning], number) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, name, element("small", {}, meaning)),
      element("td", {}, element("code", {}, quote ? toHex(quote.registers[number]) : "not readable")),
    ),
  );
  byId("measurements").replaceChildren(...rows);
  const files = ALGOS.map((algo, number) => download(`report-${algo}.json`, reports[number]));
  byId("report-files").replaceChildren(files[0], " and ", files[1]);
  byId("report-command").textContent =
    `tee-verify --report report-ecdsa.json report-ed25519.json --nonce ${nonce} --nvidia`;
  byId("chat-command").textContent =
    `TOKEN=YOUR_TOKEN tee-verify --url https://HOST --model ${quoted(model)} --nvidia --save evidence/`;
}

/** A word for a shell (POSIX, XCU 2.2.2). */
function quoted(word) {
  return /^[\w./:@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

async function checkAnswer(signal) {
  const id = byId("chat-id").value.trim();
  if (!id.isWellFormed()) throw new FailedError("no id has such characters");
  const bodies = await Promise.all(["request", "response"].map(givenBytes));
  const path = (algo) => `v1/signature/${encodeURIComponent(id)}?signing_algo=${algo}`;
  const [ecdsa, ed25519] = await asForBoth(path, SIGNATURE_SECONDS, signal);
  const { checks, verdict } = await checkExchange({ ecdsa, ed25519 }, ...bodies, { model, addresses, attested, dev });
  const brief = BRIEFLY.exchange[verdict.holds];
  return { checks, verdict: { ...verdict, brief }, more: (download) => showSignatures(download, ecdsa, ed25519) };
}

function showSignatures(download, ecdsa, ed25519) {
  const files = [download("signature-ecdsa.json", ecdsa), download("signature-ed25519.json", ed25519)];
  byId("signature-files").replaceChildren(files[0], " and ", files[1]);
}

async function givenBytes(what) {
  const [file] = byId(`${what}-file`).files;
  const text = byId(`${what}-text`).value;
  if (file && text) throw new FailedError(`there is a file and a text for the ${what}: give the one or the other`);
  if (!file) return text ? new TextEncoder().encode(text) : null;
  try {
    return new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new FailedError(`the file with the ${what} cannot be read`);
  }
}

const summary = new Summary();
new Panel("attestation", summary, checkAttestation);
new Panel("exchange", summary, checkAnswer);
