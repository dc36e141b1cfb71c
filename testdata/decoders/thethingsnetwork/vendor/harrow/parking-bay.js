// Harrow PB-2: is there a car?
var states = ['free', 'taken', 'unsure', 'fault'];

function decodeUplink(input) {
  var byte = input.bytes[0];
  if (input.bytes.length < 1) return { errors: ['empty'] };
  var data = { state: states[byte & 3], since: (byte >> 2) & 31, low_battery: byte > 127 };
  if (input.bytes.length >= 3) {
    data.vehicles_today = input.bytes[1] * 256 + input.bytes[2];
  }
  return { data: data };
}
