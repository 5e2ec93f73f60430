// Follows a growing conversation only while the reader is at its end.

const NEAR = 56; // pixels from the end that count as being there for who comes down

/** Keeps `scroller` at its end; `jump` is the button that goes back there. */
export class Follower {
  #following = true;
  #top = 0; // scrollTop when last looked at

  constructor(scroller, jump) {
    this.scroller = scroller;
    this.jump = jump;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    scroller.addEventListener("wheel", (event) => this.#turn(event), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    new ResizeObserver(() => this.follow()).observe(scroller);
  }

  // Before anything moves: to be sent back to the end would break a smooth scroll off.
  #turn({ deltaY }) {
    if (deltaY < 0 && this.scroller.scrollTop > 0) this.#set(false);
  }

  // The least step up is the reader's, who would never get away from a fast answer otherwise.
  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    const left = scrollHeight - scrollTop - clientHeight;
    const moved = scrollTop - this.#top;
    this.#top = scrollTop;
    if (moved > 0 && left < NEAR) this.#set(true);
    else if (moved < 0) this.#set(left < 1);
  }

  #set(following) {
    this.#following = following;
    this.jump.hidden = following;
  }

  /** Call after the content has changed. */
  follow() {
    const { scrollHeight, clientHeight } = this.scroller;
    if (this.#following || scrollHeight <= clientHeight) this.toEnd();
  }

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.#top = this.scroller.scrollTop;
    this.#set(true);
  }
}
