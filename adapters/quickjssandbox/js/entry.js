(function () {
  var m = typeof module === "object" && module !== null && module.exports ? module.exports : {};
  // A global function is called as such; one that was exported, as a method of what it was exported with.
  function exported(name) { return typeof m[name] === "function" ? function (a, b) { return m[name](a, b); } : undefined; }
  var api = {
    decodeUplink: typeof decodeUplink === "function" ? decodeUplink : exported("decodeUplink"),
    decode: typeof decode === "function" ? decode : exported("decode"),
    validate: typeof validate === "function" ? validate : exported("validate"),
    transform: typeof transform === "function" ? transform : exported("transform")
  };
  return api.decodeUplink || api.decode ? api : null;
})()
