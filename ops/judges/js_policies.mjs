// Prints random POST policies as the JavaScript SDK signs them, one JSON object per line, the same ones at every run.
//
//     js_policies.mjs FOLDER COUNT
//
// FOLDER is the node_modules that holds @aws-sdk/client-s3 and @aws-sdk/s3-presigned-post. `createPresignedPost` decides
// about the document, its base64 and the signature; this script only makes up what is asked of it, and sets the clock.

import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [folder, count] = process.argv.slice(2);
const require = createRequire(resolve(folder, "judge.js"));
const { S3Client } = require("@aws-sdk/client-s3");
const { createPresignedPost } = require("@aws-sdk/s3-presigned-post");

const REGIONS = ["us-east-1", "eu-west-1", "eu-central-1", "ap-northeast-1", "sa-east-1", "local"];
const TYPES = ["text/plain", "image/png", 'application/x-"quoted"', "text/plain; charset=utf-8", "видео/mp4"];
const LETTERS = [..."abcXYZ019-_.~+ =&%$\"'\\/üя漢🎉"];

// SplitMix32, for want of a seed for Math.random.
let state = 20151229;
function random() {
    state = (state + 0x9e3779b9) | 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) / 2 ** 32;
}
const between = (least, most) => least + Math.floor(random() * (most - least + 1));
const one = (list) => list[between(0, list.length - 1)];
const text = (letters, least, most) => Array.from({ length: between(least, most) }, () => one(letters)).join("");
const perhaps = (value) => (random() < 0.5 ? value : null);

// What a policy is to allow, in the service's own terms, and by whose signature.
function question() {
    const minSize = between(0, 5_000_000_000);
    const digits = [..."0123456789abcdef"];
    return {
        accessKeyId: "AKIA" + text([..."ABCXYZ0189"], 16, 16),
        secretAccessKey: text([..."ABCxyz0189+/"], 40, 40),
        sessionToken: perhaps(text(LETTERS, 50, 900)),
        region: one(REGIONS),
        signedAt: between(1_420_070_400, 2_050_000_000),
        life: between(1, 7 * 86400),
        bucket: "bucket-" + between(0, 1e9),
        key: "staging/" + text(LETTERS, 1, 200),
        minSize,
        maxSize: between(minSize, 5_000_000_000),
        contentType: perhaps(one(TYPES)),
        sha256: perhaps(createHash("sha256").update(String(random())).digest("hex")),
        owner: [8, 4, 4, 4, 12].map((length) => text(digits, length, length)).join("-"),
        isPrefix: random() < 0.3,
        traceparent: perhaps(`00-1${text(digits, 31, 31)}-1${text(digits, 15, 15)}-01`),
    };
}

// The form's fields that are not for the SDK to add.
function fieldsOf(asked) {
    const owner = asked.isPrefix ? "batch" : "upload";
    const fields = { success_action_status: "201", [`x-amz-meta-${owner}-id`]: asked.owner };
    if (asked.contentType !== null) {
        fields["Content-Type"] = asked.contentType;
    }
    if (asked.traceparent !== null) {
        fields["x-amz-meta-traceparent"] = asked.traceparent;
    }
    if (asked.sha256 !== null) {
        fields["x-amz-checksum-algorithm"] = "SHA256";
        fields["x-amz-checksum-sha256"] = Buffer.from(asked.sha256, "hex").toString("base64");
    }
    return fields;
}

async function answer(asked) {
    Date.now = () => asked.signedAt * 1000;
    const { accessKeyId, secretAccessKey, sessionToken, region } = asked;
    const credentials = { accessKeyId, secretAccessKey, sessionToken: sessionToken ?? undefined };
    const client = new S3Client({ region, credentials, endpoint: "http://localhost", forcePathStyle: true });
    const form = await createPresignedPost(client, {
        Bucket: asked.bucket,
        // With a key that ends so, the SDK makes the condition on its beginning by itself.
        Key: asked.key + (asked.isPrefix ? "${filename}" : ""),
        Conditions: [["content-length-range", asked.minSize, asked.maxSize]],
        Fields: fieldsOf(asked),
        Expires: asked.life,
    });
    return { asked, ...form };
}

for (let round = 0; round < Number(count); round += 1) {
    console.log(JSON.stringify(await answer(question())));
}
