// The server's OpenAI-compatible API.

import { events } from "./sse.js";
import { tab } from "./store.js";

/** A request that failed; `kind` names the reason, `detail` is the server's own message. */
export class ApiError extends Error {
  constructor(kind, { detail = "", retryAfter = 0 } = {}) {
    super(detail || kind);
    this.kind = kind;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

const KINDS = { 401: "unauthorized", 403: "forbidden", 429: "busy", 503: "unavailable" };

/** The API key of this tab, or an empty string. */
export const apiKey = {
  get: () => tab.get("key", ""),
  set: (key) => tab.set("key", key),
  forget: () => tab.remove("key"),
};

function headers() {
  const key = apiKey.get();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  const body = await response.json().catch(() => ({}));
  const error = body.error ?? {};
  const kind = KINDS[response.status] ?? (response.status < 500 ? rejection(error) : "failed");
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  return new ApiError(kind, { detail: error.message, retryAfter });
}

function rejection(error) {
  return error.code === "context_length_exceeded" ? "too_long" : "rejected";
}

/** The ids of the models the server has loaded. */
export async function listModels() {
  const response = await request("v1/models", { headers: headers() });
  const body = await response.json().catch(() => null);
  if (!Array.isArray(body?.data)) throw new ApiError("failed");
  return body.data.map((model) => model.id);
}

/** Yields the chunks of a streamed chat completion; throws ApiError, or AbortError when stopped. */
export async function* streamChat(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers() },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let complete = false;
  try {
    for await (const data of events(response.body)) {
      if (data === "[DONE]") complete = true;
      if (complete) continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new ApiError("failed", { detail: chunk.error.message });
      yield chunk;
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError("interrupted");
  }
  if (!complete) throw new ApiError("interrupted");
}
