// Runs once, before any tenant's code. It takes hold of what it needs of the engine, so that a script that overwrites
// globals harms itself alone, and its last value is the function that the host calls for every uplink.
(function () {
  "use strict";
  var G = globalThis, parse = JSON.parse, stringify = JSON.stringify, D = Date, isArray = Array.isArray, S = String;
  var quiet = function () {};
  G.console = {};
  ["log", "info", "warn", "error", "debug", "trace", "dir", "table", "assert", "count", "group", "groupCollapsed", "groupEnd", "time", "timeEnd", "timeLog"]
    .forEach(function (name) { G.console[name] = quiet; });
  G.self = G; // bundlers name the global object so
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
    // Called as plain functions: many codecs call their helpers on this, the global object.
    var decodeUplink = api.decodeUplink, decode = api.decode, validate = api.validate, transform = api.transform;
    if (decodeUplink) {
      var o = decodeUplink(input);
      if (o === null || typeof o !== "object") return undefined;
      return stringify({ data: o.data, warnings: o.warnings, errors: o.errors });
    }
    var object = decode(input);
    if (validate) {
      var messages = list(validate(object, input));
      if (messages.length > 0) return stringify({ errors: messages });
    }
    return stringify({ data: transform ? transform(object, input) : object });
  };
})()
