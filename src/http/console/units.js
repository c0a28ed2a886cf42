// Numbers, lengths, times and strangers' texts as people read them.

import { now } from "./api.js";

const whole = new Intl.NumberFormat("en");
const known = (value) => value !== null && value !== undefined;

export const count = (number, capped = false) => (known(number) ? `${whole.format(number)}${capped ? "+" : ""}` : "–");

/** "1 dead letter", "2 dead letters". */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const rate = (number) => (known(number) ? whole.format(Number(number.toPrecision(2))) : "–");

export function bytes(number) {
  if (!known(number)) return "–";
  const names = ["bytes", "kB", "MB", "GB", "TB", "PB"];
  let step = 0;
  for (; number >= 1000 && step < names.length - 1; step++) number /= 1000;
  return `${whole.format(Number(number.toFixed(step && number < 100 ? 1 : 0)))} ${names[step]}`;
}

/** A length of time, in seconds. */
export function span(seconds) {
  if (!known(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const pair = (large, one, small, other) => {
    const rest = Math.floor((seconds % large) / small);
    return `${Math.floor(seconds / large)} ${one}${rest ? ` ${rest} ${other}` : ""}`;
  };
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return pair(60, "min", 1, "s");
  if (seconds < 86_400) return pair(3600, "h", 60, "min");
  return pair(86_400, "d", 3600, "h");
}

/** How long ago a time was, or how far ahead it lies. */
export function distance(time) {
  const seconds = (now() - Date.parse(time)) / 1000;
  if (Math.abs(seconds) < 1.5) return "just now";
  const text = span(Math.floor(Math.abs(seconds)));
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

/** A time in UTC, to the second or with milliseconds. */
export const moment = (time, end = 19) => time.slice(0, end).replace("T", " ");

/** Emoji as a whole, which may well be joined by what cannot be seen; or a character that cannot be seen, or turns others around. */
const UNSEEN =
  /(\p{ExtPict}\p{EMod}?\uFE0F?(?:\u200D\p{ExtPict}\p{EMod}?\uFE0F?)*)|[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{DI}\u2800]/gu;

const code = (character) => `[U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;

/** A text of several lines in which nothing is hidden. */
export const lines = (text) =>
  text.replace(UNSEEN, (found, emoji) => (emoji || found === "\n" || found === "\t" ? found : code(found)));

/** A name in which nothing is hidden, so that no two look alike and none looks like nothing. */
export const plain = (name) =>
  name
    .replace(UNSEEN, (found, emoji) => emoji ?? code(found))
    .replace(/^\p{Zs}+|\p{Zs}+$/gu, (spaces) => [...spaces].map(code).join(""));
