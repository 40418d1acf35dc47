// Two MQTT.js devices: one receives, the other sends COUNT messages; then the receiver drops its connection in the middle of a
// second batch and comes back. Usage: device.js URL CA VERSION SENDER SECRET RECEIVER SECRET COUNT
'use strict'
const fs = require('fs')
const mqtt = require('mqtt')

const [url, ca, version, sender, senderSecret, receiver, receiverSecret, countText] = process.argv.slice(2)
const count = Number(countText)
const to = `wp/v1/to/${receiver.split('/')[0]}`
const options = (username, password) => ({
  username, password, clientId: username.replace('/', '-'), clean: false, protocolVersion: Number(version), reconnectPeriod: 200,
  ca: fs.readFileSync(ca), rejectUnauthorized: true
})

function fail (why) {
  console.error(why)
  process.exit(1)
}
setTimeout(() => fail('no end in 50 s'), 50000)

const got = []
const inbox = mqtt.connect(url, options(receiver, receiverSecret))
inbox.on('error', (error) => fail(`receiver: ${error.message}`))
inbox.on('message', (topic, payload) => {
  const text = payload.toString()
  if (!got.includes(text)) got.push(text)
  if (got.length === Math.floor(count / 2)) inbox.stream.destroy() // the network goes away
  if (got.length === count) finish()
})
inbox.subscribe('wp/v1/inbox/#', { qos: 1 }, (error, granted) => {
  if (error || granted[0].qos !== 1) fail(`subscribe: ${error}`)
  const outbox = mqtt.connect(url, options(sender, senderSecret))
  outbox.on('error', (error) => fail(`sender: ${error.message}`))
  for (let i = 0; i < count; i++) {
    outbox.publish(to, `m${i}`, { qos: 1 }, (error) => { if (error) fail(`publish: ${error.message}`) })
  }
})

function finish () {
  const wrong = got.findIndex((text, i) => text !== `m${i}`)
  if (wrong >= 0) fail(`out of order at ${wrong}: ${got[wrong]}`)
  console.log(`${count} in order`)
  process.exit(0)
}
