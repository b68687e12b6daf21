/** The checks of a quote's guest that a browser can make: its measurements and its key provider. */

import { bytesOfHex, sha256Hex, toHex } from "./bytes.js";
import { parseBootLog } from "./boot_log.js";
import { FailedError, make, NotMadeError } from "./checks.js";
import { checkReplay, parseEventLog, REGISTERS, RUNTIME_REGISTER } from "./event_log.js";
import { parseJson } from "./json.js";
import { checkMrConfigId } from "./mr_config.js";

/**
 * Check the guest.
 * @param {"ecdsa" | "ed25519"} algo - First word of the names of the checks.
 * @param {any} report - The report.
 * @param {import("./quote.js").Quote} quote - Its quote.
 * @returns {Promise<import("./checks.js").Check[]>}
 */
export async function checkGuest(algo, report, quote) {
  const events = once(() => parseEventLog(report.event_log));
  const bootLog = once(async () => {
    // A log that does not replay to the register proves nothing.
    await checkReplay(await events(), RUNTIME_REGISTER, quote);
    return parseBootLog(await events());
  });
  const checks = [];
  for (let register = 0; register < REGISTERS; register++) {
    checks.push(await make(`${algo} RTMR${register}`, async () => checkReplay(await events(), register, quote)));
  }
  return [
    ...checks,
    await make(`${algo} boot log`, async () => bootLogHolds(await bootLog(), report.app_id)),
    await make(`${algo} compose hash`, async () => composeMeasured(await bootLog(), appCompose(report))),
    await make(`${algo} key provider`, async () => keyProviderKnown(await bootLog(), appCompose(report))),
    await make(`${algo} MRCONFIGID`, () => checkMrConfigId(quote.mrConfigId, bootLog, () => mrConfigDocument(report))),
  ];
}

/** A function that computes its value on first use, and caches the value or the error. */
function once(compute) {
  let value;
  return () => (value ??= compute());
}

function bootLogHolds(boot, appId) {
  if ((appId ?? null) !== null && toHex(bytesOfHex(appId, "app_id")) !== boot.appId) {
    throw new FailedError(`the report names the app ${appId}, ${boot.appId} was measured`);
  }
  return `dstack's events, in dstack's order; app ${boot.appId}, instance ${boot.instanceId || "unnamed"}`;
}

function appCompose({ info }) {
  const tcbInfo = typeof info.tcb_info === "string" ? parseJson(info.tcb_info, "tcb_info") : info.tcb_info;
  const text = tcbInfo.app_compose;
  if (typeof text !== "string" || !text.isWellFormed()) throw new FailedError("the report has no compose file");
  return text;
}

async function composeMeasured(boot, text) {
  const digest = await sha256Hex(new TextEncoder().encode(text));
  if (digest !== boot.composeHash) {
    throw new FailedError(`SHA-256 of app_compose is ${digest}, but ${boot.composeHash} was measured`);
  }
  return `${digest} was measured`;
}

async function keyProviderKnown(boot, text) {
  await composeMeasured(boot, text);
  const { kind, id } = boot.keyProvider;
  const pinned = parseJson(text, "the compose file").key_provider_id ?? "";
  const shown = id ? `${kind} ${await sha256Hex(bytesOfHex(id, "its id"))} (SHA-256 of its id)` : kind;
  if (kind === "tpm") {
    throw new FailedError("keys are sealed to a TPM, which on plain TDX is a program of the host: it knows them all");
  }
  if (pinned !== "" && toHex(bytesOfHex(pinned, "key_provider_id of app_compose")) !== id) {
    throw new FailedError(`the keys come from ${shown}; the compose file requires ${pinned}`);
  }
  if (kind === "none") return "none: the guest generates random keys itself, and loses them when it stops";
  if (pinned !== "" && kind === "kms") return `${shown}, which the compose file requires (key_provider_id)`;
  const risk = kind === "kms" ? "any KMS of the host's choice could hold these keys" : "the host may have chosen it";
  throw new NotMadeError(`${shown}; ${risk}: tee-verify --expect-key-provider settles it, see below`);
}

/** The document that MRCONFIGID is the hash of, according to the host: a claim, until it is checked. */
function mrConfigDocument({ vm_config: own, info }) {
  const source = own ?? info?.vm_config;
  return (typeof source === "string" && source ? parseJson(source, "vm_config") : source)?.mr_config;
}
