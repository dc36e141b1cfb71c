// Fieldmark PC-2, in three stages: passages in both directions since the last frame and since the start.
var decode = function (input) {
  var b = input.bytes;
  return {
    kind: b[0],
    in: (b[1] << 8) | b[2],
    out: (b[3] << 8) | b[4],
    total: { in: (b[5] << 16) | (b[6] << 8) | b[7], out: (b[8] << 16) | (b[9] << 8) | b[10] },
    blocked: (b[11] & 1) === 1,
    length: b.length,
  };
};

var validate = function (o) {
  var messages = [];
  if (o.length !== 12) return ["a frame has 12 bytes, not " + o.length];
  if (o.kind !== 2) messages.push("frames of kind " + o.kind + " are not read");
  if (o.in > o.total.in) messages.push("more came in since the last frame than ever");
  if (o.out > o.total.out) messages.push("more went out since the last frame than ever");
  return messages;
};

var transform = function (o) {
  return { in: o.in, out: o.out, inside: o.total.in - o.total.out, blocked: o.blocked };
};
