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
h3, h4, h5 { margin: 0 0 .5rem; font-size: 1rem; font-weight: 600; }
a { color: inherit; text-decoration-color: var(--accent); text-underline-offset: .15em; }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--tint); padding: .05em .3em; }
pre { overflow-x: auto; background: var(--tint); padding: .75rem; }
pre code { padding: 0; background: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; max-width: 46rem; font-size: .94rem; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.meta, .problem { max-width: 46rem; font-size: .88rem; color: var(--soft); }
.problem { color: var(--accent); }
.claim p { margin: 0 0 1rem; max-width: 42rem; font-size: 1.06rem; }
section, nav { margin-top: 2.5rem; }
.result { margin-top: 3.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); scroll-margin-top: 1rem; }
.result > h2, #overview, #distillations > h2 { font-size: 1.35rem; line-height: 1.25; }
.result > p { max-width: 42rem; }
.result .plots { margin-top: 2rem; }
details { margin-top: 1.25rem; }
details > :not(summary) { margin-top: 1rem; }
.prose > * { max-width: 46rem; }
.prose > .scroll { max-width: 100%; margin-bottom: 1.25rem; }
.prose > :is(h3, h4, h5, h6) { margin-top: 1.5rem; }
.prose :is(th, td) { text-align: left; }
figure { margin: 0; }
figcaption { margin-top: .75rem; max-width: 46rem; font-size: .86rem; line-height: 1.5; color: var(--soft); }
.scroll { overflow-x: auto; border-block: 2px solid var(--ink); }
.scroll:focus-visible { outline: 2px solid var(--accent); outline-offset: 3px; }
table { border-collapse: collapse; width: 100%; font-size: .94rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .75rem; text-align: right; white-space: nowrap; }
thead th { font-weight: 600; vertical-align: bottom; white-space: normal; overflow-wrap: normal; min-width: 5.5rem; }
thead th, thead td { border-bottom: 1px solid var(--ink); }
thead th:first-child { padding-left: 0; }
tbody tr + tr > * { border-top: 1px solid var(--line); }
tbody th, thead td { position: sticky; left: 0; background: var(--paper); }
tbody th { text-align: left; font-weight: 500; white-space: normal; min-width: 8rem; padding-left: 0; }
tr.control th { font-style: italic; }
td b { font-weight: 600; }
td.left, th.left { text-align: left; }
.sd, .paper { font-size: .86em; color: var(--soft); }
.stacked .sd, .paper { display: block; }
.word { white-space: nowrap; }
.missing { color: var(--faint); }
.plots { columns: 26rem 2; column-gap: 2.5rem; }
.plot { break-inside: avoid; margin-bottom: 2.5rem; max-width: 34rem; }
.plot svg, .plot img, .prose img { display: block; width: 100%; height: auto; }
.plot img, .prose img { background: #fff; }
ul { padding-left: 1.2rem; }
li + li { margin-top: .3rem; }
@media (min-width: 48rem) { nav tbody th { min-width: 19rem; } }
@media (max-width: 30rem) {
  body { font-size: 16px; }
  main { padding-top: 1.5rem; }
  th, td { padding: .45rem .5rem; }
  .sd, .paper { display: block; }
}
summary { cursor: pointer; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --faint: #777; --line: #ccc; --tint: #f4f4f4; --accent: #8a3c00; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  table { font-size: .8rem; }
  th, td { padding: .25rem .4rem; white-space: normal; }
  nav tbody th { min-width: 11rem; }
  thead th { min-width: 0; }
  .prose table, .stacked { font-size: .6rem; }
  .stacked :is(th, td) { padding: .2rem .15rem; }
  .stacked tbody th { min-width: 6rem; }
  tr, .plot, h2, h3 { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .plots { columns: 2; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
