// Runs once, before any tenant's code. It takes hold of what it needs of the engine, so that a script that overwrites
// globals harms itself alone, and its last value is the function that the host calls for every uplink.
(function () {
  "use strict";
  var G = globalThis, parse = JSON.parse, stringify = JSON.stringify, D = Date, isArray = Array.isArray, S = String;
  var quiet = function () {};
  G.console = { log: quiet, info: quiet, warn: quiet, error: quiet, debug: quiet, trace: quiet };
  delete G.SharedArrayBuffer;
  delete G.Atomics;
  delete G.performance;
  G.module = { exports: {} };
  G.exports = G.module.exports;

  function list(v) {
    if (v === undefined || v === null) return [];
    if (!isArray(v)) throw new TypeError("validate must return an array of messages");
    var out = [];
    for (var i = 0; i < v.length; i++) out[i] = S(v[i]);
    return out;
  }

  return function (api, text) {
    var raw = parse(text);
    var input = { bytes: raw.bytes, fPort: raw.fPort, recvTime: new D(raw.recvTime), variables: raw.variables };
    if (api.decodeUplink) {
      var o = api.decodeUplink(input);
      if (o === null || typeof o !== "object") return undefined;
      return stringify({ data: o.data, warnings: o.warnings, errors: o.errors });
    }
    var object = api.decode(input);
    if (api.validate) {
      var messages = list(api.validate(object, input));
      if (messages.length > 0) return stringify({ errors: messages });
    }
    return stringify({ data: api.transform ? api.transform(object, input) : object });
  };
})()
