// Northquay RC-1: battery, temperature, humidity and light, each behind a tag of two bytes.
var fields = {
  "01.75": { size: 1, put: function (d, b, i) { d.battery = b[i]; } },
  "03.67": { size: 2, put: function (d, b, i) { d.temperature = signed16(b[i] | (b[i + 1] << 8)) / 10; } },
  "04.68": { size: 1, put: function (d, b, i) { d.humidity = b[i] / 2; } },
  "05.65": { size: 2, put: function (d, b, i) { d.light = b[i] | (b[i + 1] << 8); } },
};

function signed16(v) {
  return v > 0x7fff ? v - 0x10000 : v;
}

function hex(v) {
  return (v < 16 ? "0" : "") + v.toString(16);
}

function decodeUplink(input) {
  var b = input.bytes, data = {}, warnings = [];
  for (var i = 0; i < b.length;) {
    if (i + 2 > b.length) return { errors: ["a tag is cut off"] };
    var tag = hex(b[i]) + "." + hex(b[i + 1]), field = fields[tag];
    if (!field) {
      warnings.push("unknown tag " + tag + ", the rest is not read");
      break;
    }
    i += 2;
    if (i + field.size > b.length) return { errors: ["the value of " + tag + " is cut off"] };
    field.put(data, b, i);
    i += field.size;
  }
  if (data.battery !== undefined && data.battery < 10) warnings.push("battery is low");
  return { data: data, warnings: warnings };
}
