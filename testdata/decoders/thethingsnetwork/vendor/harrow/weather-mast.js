// Harrow WM-5: a stream of bits; instruments that are not fitted are left out of it.
function Bits(bytes) {
  this.bytes = bytes;
  this.at = 0;
}

Bits.prototype.take = function (n) {
  var v = 0;
  if (this.at + n > this.bytes.length * 8) throw new RangeError("the stream ends at bit " + this.bytes.length * 8);
  for (; n > 0; n--, this.at++) v = v * 2 + ((this.bytes[this.at >> 3] >> (7 - (this.at & 7))) & 1);
  return v;
};

function round(v, digits) {
  return Number(v.toFixed(digits));
}

var instruments = [
  function (s, d) { d.temperature = round(s.take(11) / 10 - 60, 1); },
  function (s, d) { d.humidity = s.take(7); },
  function (s, d) { d.wind = { speed: round(s.take(10) / 10, 1), gust: round(s.take(10) / 10, 1), direction: s.take(9) }; },
  function (s, d) { d.rain = round(s.take(14) * 0.2, 1); },
  function (s, d) { d.pressure = round(500 + s.take(13) / 10, 1); },
  function (s, d) { d.radiation = s.take(11); },
];

function decodeUplink(input) {
  if (input.fPort !== 20) return { errors: ["unknown FPort"] };
  var s = new Bits(input.bytes), data = {}, fitted, warnings = [];
  try {
    fitted = s.take(8);
    instruments.forEach(function (read, i) {
      if (fitted & (0x80 >> i)) read(s, data);
    });
  } catch (e) {
    return { errors: [e.message] };
  }
  if (data.wind && data.wind.gust < data.wind.speed) warnings.push("a gust below the wind");
  return { data: data, warnings: warnings };
}
