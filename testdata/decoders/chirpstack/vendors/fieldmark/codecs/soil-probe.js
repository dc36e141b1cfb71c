// Fieldmark SP-3: three depths, raw permittivity; offset and scale come with each probe. ES5, since older servers run it too.
function number(text, otherwise) {
  var n = parseFloat(text);
  return isNaN(n) ? otherwise : n;
}

function moisture(raw, offset, scale) {
  var e = raw / 50; // permittivity
  var v = -5.3e-2 + 2.92e-2 * e - 5.5e-4 * e * e + 4.3e-6 * e * e * e;
  v = (v + offset) * scale * 100;
  return Math.max(0, Math.min(100, Math.round(v * 10) / 10));
}

function decodeUplink(input) {
  var b = input.bytes, v = input.variables || {};
  if (input.fPort !== 7) return { errors: ["unknown port"] };
  if (b.length !== 10) return { errors: ["a frame has 10 bytes"] };
  var offset = number(v.offset, 0), scale = number(v.scale, 1), depths = [10, 30, 60], layers = [];
  for (var i = 0; i < depths.length; i++) {
    var raw = (b[2 + 2 * i] << 8) + b[3 + 2 * i];
    layers.push(raw === 0xffff ? { depth: depths[i], fault: true } : { depth: depths[i], moisture: moisture(raw, offset, scale) });
  }
  var t = (b[8] << 8) + b[9];
  return {
    data: { battery: ((b[0] << 8) + b[1]) / 1000, layers: layers, temperature: ((t ^ 0x8000) - 0x8000) / 100 },
    warnings: layers.filter(function (l) { return l.fault; }).map(function (l) { return "no probe at " + l.depth + " cm"; })
  };
}
