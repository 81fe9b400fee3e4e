// Formulas are written as \( \) and \[ \]; MathJax draws them where there is a network, and without one
// they stay readable as they are.
window.MathJax = {
  tex: {inlineMath: [['\\(', '\\)']], displayMath: [['\\[', '\\]']]},
  options: {ignoreHtmlClass: '.*|', processHtmlClass: 'arithmatex'},
};
const script = document.createElement('script');
script.src = 'https://cdn.jsdelivr.net/npm/mathjax@3/es5/tex-mml-chtml.js';
document.head.appendChild(script);
