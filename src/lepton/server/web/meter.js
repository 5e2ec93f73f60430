// How fast an answer comes.

/** Counts the tokens of one answer and times them, in milliseconds of `performance.now()`. */
export class Meter {
  constructor() {
    this.start = performance.now();
    this.first = null;
    this.last = null;
    this.tokens = 0;
    this.promptTokens = null;
    this.cachedTokens = 0;
  }

  /** Notes a piece of text; the server sends about one token in each. */
  piece() {
    this.last = performance.now();
    this.first ??= this.last;
    this.tokens += 1;
  }

  /** Takes the exact counts from the server's usage record. */
  usage(usage) {
    this.tokens = usage.completion_tokens;
    this.promptTokens = usage.prompt_tokens;
    this.cachedTokens = usage.prompt_tokens_details?.cached_tokens ?? 0;
  }

  /** What is known so far; `rate` is in tokens per second after the first one. */
  summary() {
    if (this.first === null) return null;
    const elapsed = (this.last - this.first) / 1000;
    return {
      tokens: this.tokens,
      rate: elapsed > 0 && this.tokens > 1 ? (this.tokens - 1) / elapsed : null,
      firstToken: (this.first - this.start) / 1000,
      promptTokens: this.promptTokens,
      cachedTokens: this.cachedTokens,
    };
  }
}
