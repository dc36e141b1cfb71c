(function () {
  var m = typeof module === "object" && module !== null && module.exports ? module.exports : {};
  var api = {
    decodeUplink: typeof decodeUplink === "function" ? decodeUplink : m.decodeUplink,
    decode: typeof decode === "function" ? decode : m.decode,
    validate: typeof validate === "function" ? validate : m.validate,
    transform: typeof transform === "function" ? transform : m.transform
  };
  return typeof api.decodeUplink === "function" || typeof api.decode === "function" ? api : null;
})()
