// Small JSON values in the browser's storage; a blocked storage behaves like an empty one.

function area(open) {
  return {
    get(key, fallback) {
      try {
        const value = JSON.parse(open().getItem(`lepton.${key}`));
        return value ?? fallback;
      } catch {
        return fallback;
      }
    },
    set(key, value) {
      try {
        open().setItem(`lepton.${key}`, JSON.stringify(value));
      } catch {
        // Storage is full or blocked: the value lives as long as the page.
      }
    },
    remove(key) {
      try {
        open().removeItem(`lepton.${key}`);
      } catch {
        // Nothing was stored.
      }
    },
  };
}

/** Outlives the tab: theme, language, settings. */
export const remembered = area(() => window.localStorage);

/** Gone with the tab: the conversation and the API key. */
export const tab = area(() => window.sessionStorage);
