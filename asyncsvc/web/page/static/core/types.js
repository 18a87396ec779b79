/**
 * The shapes that the page gets from the service. A field that a service of another version does
 * not send is undefined: what depends on it is left out.
 *
 * @typedef {"scheduled" | "pending" | "running" | "paused" | "completed" | "failed" | "cancelled"} State
 * @typedef {{code: string, message: string, retryable?: boolean}} TaskError
 * @typedef {[string, number]} Span  kind and milliseconds
 *
 * @typedef {object} Task  a task as in a list
 * @property {string} task_id
 * @property {State} status
 * @property {string} type
 * @property {string | null} model
 * @property {string} lane
 * @property {number} priority
 * @property {string | null} session_id
 * @property {string | null} owner
 * @property {number} attempts
 * @property {TaskError | null} error
 * @property {any} metadata
 * @property {string} created_at
 * @property {string} updated_at
 * @property {string | null} started_at
 * @property {string | null} finished_at
 * @property {string | null} next_run_at
 * @property {string | null} schedule_id
 * @property {string} content_preview
 * @property {string | null} result_preview
 * @property {Span[]} [spans]
 * @property {number} [closed_ms]
 *
 * @typedef {object} Event  what happened to a task
 * @property {number | null} id
 * @property {string} task_id
 * @property {number | null} seq
 * @property {string} type
 * @property {string} ts
 * @property {any} data
 *
 * @typedef {{area: string, id: string | null, tab: string | null, filters: Record<string, string>}} Route
 *
 * @typedef {object} Connection
 * @property {"connecting" | "live" | "away" | "closed"} state
 * @property {number} since  when it came into this state, ms since the epoch
 * @property {number | null} retryAt  when it is tried again
 * @property {number | null} lagMs  from the commit of the last event to its arrival
 */
export {};
