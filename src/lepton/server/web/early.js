// Applies the remembered theme before the first paint; everything else waits for main.js.
try {
  const theme = JSON.parse(localStorage.getItem("lepton.theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked or holds something else: the system's theme applies.
}
