/**
 * The form of an ECDSA signature on secp256k1, which browsers cannot verify.
 *
 * Of the two valid signatures (r, s) and (r, n - s), each of which can be computed from the other without the key,
 * signers make the one with the low s (EIP-2), and only this one is accepted.
 */

import { FailedError } from "./checks.js";

/** Order of the group, n (SEC 2, 2.4.1). */
const ORDER = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141n;

const SIGNATURE = /^0x([0-9a-f]{64})([0-9a-f]{64})(1b|1c)$/;

/**
 * Check the form of a signature: 0x, r, s and v, which is 27 or 28.
 * @param {unknown} signature
 * @throws {FailedError} It has another form.
 */
export function checkForm(signature) {
  const found = typeof signature === "string" ? SIGNATURE.exec(signature) : null;
  if (found === null) throw new FailedError("it is not 0x, r, s and v (27 or 28) in lower-case hex");
  for (const [at, name] of ["r", "s"].entries()) {
    const value = BigInt(`0x${found[at + 1]}`);
    if (value === 0n || value >= ORDER) throw new FailedError(`its ${name} is not between 1 and the order of the group`);
    if (name === "s" && value > ORDER / 2n) {
      throw new FailedError("its s is high: it can be computed from the real signature, which has a low s");
    }
  }
}
