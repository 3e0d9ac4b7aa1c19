"""The page's style sheet: light and dark, from a phone's width up."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1d2127; --soft: #5a626d; --faint: #9aa1ab; --line: #dfe1e5; --tint: #f2f3f1;
  --accent: #b24e00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --ink: #e6e8eb; --soft: #a3abb5; --faint: #707984; --line: #30353c; --tint: #1d2126;
    --accent: #f0935a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%; overflow-wrap: anywhere;
}
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
header p, li { max-width: 42rem; }
.mark { margin: 0; font-size: .8rem; font-weight: 600; letter-spacing: .06em; color: var(--accent); }
h1 { margin: .2rem 0 1rem; font-size: clamp(1.6rem, 1.2rem + 1.8vw, 2.3rem); line-height: 1.2; font-weight: 650; }
h2 { margin: 0 0 .75rem; font-size: 1.1rem; font-weight: 650; }
section { margin-top: 2.5rem; }
figure { margin: 0; }
figcaption { margin-top: .75rem; max-width: 46rem; font-size: .86rem; line-height: 1.5; color: var(--soft); }
.scroll { overflow-x: auto; border-block: 2px solid var(--ink); }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .75rem; text-align: right; white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; white-space: normal; overflow-wrap: normal; min-width: 5.5rem; }
thead th, thead td { border-bottom: 1px solid var(--ink); }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody th, thead td { position: sticky; left: 0; background: var(--paper); }
tbody th { text-align: left; font-weight: 500; white-space: normal; min-width: 8rem; padding-left: 0; }
tr.control th { font-style: italic; }
td b { font-weight: 600; }
.sd, .paper { font-size: .86em; color: var(--soft); }
.stacked .sd, .stacked .paper { display: block; }
.word { white-space: nowrap; }
.missing { color: var(--faint); }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 2.5rem; }
.plot { min-width: 0; max-width: 38rem; }
.plot svg { display: block; width: 100%; height: auto; }
ul { padding-left: 1.2rem; }
li + li { margin-top: .3rem; }
@media (max-width: 30rem) {
  body { font-size: 16px; }
  main { padding-top: 1.5rem; }
  th, td { padding: .45rem .5rem; }
  .sd, .paper { display: block; }
}
summary { cursor: pointer; }
@media print { .scroll { overflow: visible; } }
"""
