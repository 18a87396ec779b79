/**
 * The figures of the service over time, made ready for the charts: rates a minute or a second from
 * what was added in each row, and what tasks have waited for.
 */

/**
 * @typedef {import("./charts.js").Values} Values
 * @typedef {"priority" | "short" | "long" | "scheduled" | "running" | "paused" | "memory_mb" |
 *   "cpu_percent" | "loop_lag_ms"} Level
 * @typedef {"accepted" | "refused" | "completed" | "failed" | "cancelled" | "calls" | "errors" |
 *   "tokens"} Total
 * @typedef {{span: string, every_s: number, at: string[], levels: Record<Level, number[]>,
 *   totals: Record<Total, number[]>, waits: Record<string, number[]>,
 *   waited_s: Record<string, number>}} History  as the service answers
 */

const MINUTE_S = 60;
/** A rate a second is the mean of this time: tokens come in bursts. */
const SOON_S = 15;
const REASONS_MOST = 2;

/**
 * What was added in the time before each row, as a rate.
 *
 * @param {number[]} added what each row has added
 * @param {number[]} times the end of each row, ms since the epoch
 * @param {number} every seconds of a row, about
 * @param {number} over seconds of which it is the mean
 * @param {number} per seconds that the rate is given for
 * @returns {Values}
 */
export function rate(added, times, every, over, per) {
  const rows = Math.max(1, Math.round(over / every));
  let sum = 0;
  return added.map((value, index) => {
    sum += value - (index >= rows ? added[index - rows] : 0);
    const length = index >= rows ? (times[index] - times[index - rows]) / 1000 : (index + 1) * every;
    return (Math.max(sum, 0) / length) * per;
  });
}

/** The sum of some rows, one by one. @param {number[][]} lists @returns {number[]} */
function together(...lists) {
  return (lists[0] ?? []).map((_, index) => lists.reduce((sum, list) => sum + (list[index] ?? 0), 0));
}

/** Seconds that tasks have waited over the whole span, longest first. @param {History} history @returns {[string, number][]} */
export function waited(history) {
  return Object.entries(history.waits)
    .map(([reason, values]) => /** @type {[string, number]} */ ([reason, together(values).reduce((a, b) => a + b, 0)]))
    .filter(([, seconds]) => seconds > 0)
    .sort((a, b) => b[1] - a[1]);
}

/**
 * All that the charts draw.
 *
 * @param {History} history
 */
export function drawn(history) {
  const { levels, totals, every_s: every } = history;
  const times = history.at.map((at) => Date.parse(at));
  const aMinute = (/** @type {number[]} */ added) => rate(added, times, every, MINUTE_S, MINUTE_S);
  return {
    times,
    submitted: aMinute(totals.accepted),
    finished: aMinute(together(totals.completed, totals.failed, totals.cancelled)),
    tokens: rate(totals.tokens, times, every, SOON_S, 1),
    failedTasks: aMinute(totals.failed),
    failedCalls: aMinute(totals.errors),
    refused: aMinute(totals.refused),
    waits: waited(history)
      .slice(0, REASONS_MOST)
      .map(([reason]) => ({ reason, values: aMinute(history.waits[reason]) })),
    levels,
  };
}
