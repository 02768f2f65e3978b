// MathJax 4: all settings, and the one place for macros of the whole book. Notebooks show the same
// formulas in Jupyter, which does not know these macros, so chapters do without them; what stands
// here serves the pages of the book alone.
(function () {
  var folder = document.currentScript.src.replace(/js\/mathjax-config[^/]*$/, "vendor/mathjax");
  // The widget manager asks for typesetting the way MathJax 2 wanted it.
  var hub = {
    Queue: function (job) {
      if (Array.isArray(job) && job[2] && MathJax.typesetPromise) MathJax.typesetPromise([job[2]]);
    }
  };
  window.MathJax = {
    Hub: hub,
    // Without the menu and the explorer, which would load further files.
    loader: {
      load: ["input/tex", "output/chtml", "a11y/assistive-mml"],
      paths: { mathjax: folder, "mathjax-tex": folder + "/font" }
    },
    output: {
      font: "mathjax-tex",
      fontPath: folder + "/font",
      displayOverflow: "linebreak" // a formula too wide for its place goes on in the next line,
    },
    tex: {
      macros: {
        // best where its parts are set apart.
        quad: "\\hspace{1em}\\goodbreak ",
        qquad: "\\hspace{2em}\\goodbreak "
      }
    },
    options: { processHtmlClass: "tex2jax_process|mathjax_process|math|output_area" },
    startup: {
      ready: function () {
        MathJax.startup.defaultReady();
        MathJax.Hub = hub;
      },
      // Formulas change the height of what stands above the target of the address.
      pageReady: function () {
        var start = window.scrollY;
        return MathJax.startup.defaultPageReady().then(function () {
          var target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
          var moved = Math.abs(window.scrollY - start) > window.innerHeight;
          if (target && !moved) target.scrollIntoView();
        });
      }
    }
  };
})();
