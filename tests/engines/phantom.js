// phantomjs phantom.js URL [without-websocket]: opens a page and ends once it has reported.
var page = require("webpage").create();
var system = require("system");

function tell(what) { system.stdout.writeLine(what); }

page.onConsoleMessage = function (text) { tell("console: " + text); };
page.onError = function (text, trace) { tell("error: " + text + " " + JSON.stringify(trace[0])); };
page.onResourceError = function (error) { tell("network: " + error.errorString + " " + error.url); };
if (system.args[2]) {
  page.onInitialized = function () {
    page.evaluate(function () {
      delete window.WebSocket;
      // It is the prototype's, too, and comes back.
      window.WebSocket = undefined;
    });
  };
}
page.open(system.args[1], function (status) {
  if (status !== "success") {
    tell("the page did not load");
    phantom.exit(1);
  }
});
setInterval(function () { if (page.title === "reported") { phantom.exit(0); } }, 50);
