// MathJax 3: all settings, and the one place for macros of the whole book. Notebooks show the same
// formulas in Jupyter, which does not know these macros, so chapters do without them; what stands
// here serves the pages of the book alone.
(function () {
  // The widget manager asks for typesetting the way MathJax 2 wanted it.
  var hub = {
    Queue: function (job) {
      if (Array.isArray(job) && job[2] && MathJax.typesetPromise) MathJax.typesetPromise([job[2]]);
    }
  };
  window.MathJax = {
    Hub: hub,
    options: {
      enableMenu: false, // the menu would load further files
      processHtmlClass: "tex2jax_process|mathjax_process|math|output_area"
    },
    tex: { macros: {} },
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
