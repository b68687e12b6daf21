/**
 * MRCONFIGID: 48 bytes that the host chose when it made the TD; with dstack, they state what is to run in it.
 *
 * The hardware signs them, and no event can change them. But the host chooses them: unset, they prove nothing.
 */

import { sha256Hex, toHex } from "./bytes.js";
import { FailedError, NotMadeError } from "./checks.js";
import { parseJson } from "./json.js";

/**
 * Check that MRCONFIGID states what the guest has measured.
 * @param {Uint8Array} value - The quote's MRCONFIGID.
 * @param {() => Promise<import("./boot_log.js").BootLog>} bootLog
 * @param {() => unknown} document - Returns the text that version 3 is the hash of, from the host.
 * @returns {Promise<string>} What was found.
 * @throws {FailedError | NotMadeError}
 */
export async function checkMrConfigId(value, bootLog, document) {
  if (value.every((byte) => byte === 0)) {
    throw new NotMadeError("unset: the host has not stated what is to run in this TD");
  }
  const boot = await bootLog();
  const digest = toHex(value.subarray(1, 33));
  if (value.subarray(33).some((byte) => byte !== 0)) throw new FailedError(`${toHex(value)} is not of dstack's form`);
  if (value[0] === 1) {
    if (digest !== boot.composeHash) throw new FailedError(`it names ${digest}, ${boot.composeHash} was measured`);
    return `version 1, ${toHex(value)}: the compose file that was measured`;
  }
  if (value[0] === 2) throw new NotMadeError("version 2: browsers have no keccak256, tee-verify has: see below");
  if (value[0] === 3) return `version 3, ${toHex(value)}: ${await documentHolds(digest, boot, document())}`;
  throw new FailedError(`it is of version ${value[0]}, and 1 to 3 are known`);
}

async function documentHolds(digest, boot, document) {
  if (typeof document !== "string") throw new FailedError("it is the hash of a document, and vm_config has none");
  if ((await sha256Hex(new TextEncoder().encode(`dstack-mr-config-v3:\0${document}`))) !== digest) {
    throw new FailedError("it is the hash of another document than vm_config has");
  }
  const source = parseJson(document, "the document behind MRCONFIGID");
  const measured = {
    version: 3,
    app_id: boot.appId,
    compose_hash: boot.composeHash,
    // Documents use the names of compose files; the boot log's names are the same except for this one.
    key_provider: boot.keyProvider.kind === "local-sgx" ? "local" : boot.keyProvider.kind,
    key_provider_id: boot.keyProvider.id,
    instance_id: boot.instanceId,
    gpu_policy_hash: boot.gpuPolicyHash,
    init_script_hashes: boot.initScriptHashes,
  };
  for (const name of new Set(["compose_hash", "key_provider", ...Object.keys(source)])) {
    if (!Object.hasOwn(measured, name) || JSON.stringify(source[name]) !== JSON.stringify(measured[name])) {
      throw new FailedError(`${name} in its document is not what was measured`);
    }
  }
  return `a document that has ${Object.keys(source).sort().join(", ")} as they were measured`;
}
