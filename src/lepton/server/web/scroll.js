// Follows a growing conversation only while the reader is at its end.

const NEAR = 56; // pixels from the end that still count as being there

/** Keeps `scroller` at its end; `jump` is the button that goes back there. */
export class Follower {
  #following = true;

  constructor(scroller, jump) {
    this.scroller = scroller;
    this.jump = jump;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.follow()).observe(scroller);
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR;
    this.jump.hidden = this.#following;
  }

  /** Call after the content has grown. */
  follow() {
    if (this.#following) this.toEnd();
    else this.#look();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#following = true;
    this.jump.hidden = true;
  }
}
