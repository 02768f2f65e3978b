(function () {
  "use strict";

  // The language switch remembers the choice and leads to the same place on the other page.
  // Headings have ids of their own in each language, so each also carries `place-<number>`,
  // counted alike in both; ids of equations and exercises are the same anyway.

  function visible(element) {
    var box = element.getBoundingClientRect();
    return box.bottom > 0 && box.top < window.innerHeight;
  }

  // What the reader looks at: the target of the address while that is in view, else the last
  // heading or equation that has passed the upper third of the window.
  function place() {
    var id = decodeURIComponent(location.hash.slice(1));
    var target = id && document.getElementById(id);
    if (target && visible(target)) {
      return target.querySelector(":scope > span[id^='place-']") || target;
    }
    var marks = document.querySelectorAll("span[id^='place-'], [id^='equation-eq-']");
    return Array.from(marks).filter(function (mark) {
      return mark.getBoundingClientRect().top < window.innerHeight / 3;
    }).pop();
  }

  document.querySelectorAll(".gt-language").forEach(function (link) {
    link.addEventListener("click", function () {
      try { localStorage.setItem("gt-language", link.dataset.language); } catch (error) { /* off */ }
      var here = place();
      link.hash = here && here.id !== "place-1" ? here.id : "";
    });
  });

  // Excerpts among the search results come without the marks around formulas.
  if (typeof Search !== "undefined" && Search.htmlToText) {
    var plain = Search.htmlToText;
    Search.htmlToText = function () {
      return plain.apply(Search, arguments).replace(/\\[()[\]]/g, "");
    };
  }
})();
