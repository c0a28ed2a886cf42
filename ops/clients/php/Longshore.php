<?php

declare(strict_types=1);

/** What went wrong between us and longshore. The message is for people. */
class LongshoreException extends RuntimeException
{
}

/** The server or the bucket said no, and would again: the HTTP status, and the API's `error.type`. */
final class LongshoreRefusal extends LongshoreException
{
    public function __construct(public readonly int $status, public readonly string $type, string $message)
    {
        parent::__construct($message);
    }
}

/**
 * A longshore server, with the key and secret to come in with. PHP 8.1 or later with ext-curl.
 *
 * The server signs a form, whoever has the file posts it straight to the bucket, and the server checks what arrived. For a
 * file of the end user's, call `create`, hand its form to the browser, then `confirm` (see public/upload.php). For a file on
 * this machine's disk, `upload` does it all.
 */
final class Longshore
{
    private const PASSING = [429, 500, 502, 503, 504];
    private const ENDS = ['done', 'rejected', 'cancelled'];

    public function __construct(
        private readonly string $server,
        private readonly string $key,
        #[SensitiveParameter] private readonly string $secret,
        /** How often a request is sent before its failure stands: 6 is about 18 s, 3 about 2 s. */
        private readonly int $attempts = 6,
        /** Seconds after which a line on which nothing moves is given up. */
        private readonly int $silence = 90,
    ) {
    }

    /** From LONGSHORE_SERVER and LONGSHORE_TOKEN, which is `lsk_<key>_<secret>`. */
    public static function fromEnvironment(int $attempts = 6): self
    {
        $server = getenv('LONGSHORE_SERVER') ?: 'http://127.0.0.1:8080';
        $parts = explode('_', trim(getenv('LONGSHORE_TOKEN') ?: ''), 3);
        if (count($parts) !== 3) {
            throw new LongshoreException('set LONGSHORE_TOKEN to an API token (lsk_...)');
        }
        $silence = (int) getenv('LONGSHORE_SILENCE') ?: 90;
        return new self(rtrim($server, '/'), $parts[1], $parts[2], $attempts, $silence);
    }

    /** Where the bucket is and how large a file may be: `url`, `maxSize`, ... */
    public function config(): array
    {
        return $this->call('GET', '/api/uploads/config');
    }

    /**
     * Asks for an upload. Its `upload` is the form to post to the bucket; there is none if the bytes are known already.
     *
     * @param array{filename: string, size?: int, type?: string, sha256?: string, ref?: string,
     *              target?: array{kind: 'order'|'style', number: string}} $wish
     * @param ?string $once the same for a question that you ask again, so that it makes no second upload
     */
    public function create(array $wish, ?string $once = null): array
    {
        // A lost answer makes us ask again; with this key the server knows that it is the same question.
        $headers = ['Idempotency-Key: ' . ($once ?? bin2hex(random_bytes(16))), 'Prefer: wait=10'];
        return $this->first($this->call('POST', '/api/uploads', $wish, $headers));
    }

    /** Says that the file is in the bucket, so that the server looks at once. */
    public function confirm(string $id): void
    {
        $this->call('POST', "/api/uploads/$id/callback");
    }

    /** The upload as it is now, or once it has ended if that is within so many seconds. */
    public function status(string $id, int $wait = 0): array
    {
        return $this->first($this->call('GET', "/api/uploads/$id", null, $wait > 0 ? ["Prefer: wait=$wait"] : []));
    }

    /** The upload with a fresh form, when the former one's time has run out. */
    public function renew(string $id): array
    {
        try {
            return $this->first($this->call('POST', "/api/uploads/$id/policy", null, ['Prefer: wait=10']));
        } catch (LongshoreRefusal $refusal) {
            if ($refusal->status !== 409) {
                throw $refusal;
            }
            return $this->status($id); // it has moved on meanwhile
        }
    }

    /**
     * Uploads a file of this machine's disk, and returns the upload, which is `done`. With $sha256, the file must have that
     * hash; without, it is read once more. Uploading the same file for the same target again changes nothing.
     *
     * @param null|array{kind: 'order'|'style', number: string} $target
     */
    public function upload(string $path, ?array $target = null, ?string $sha256 = null): array
    {
        if (!is_file($path) || !is_readable($path)) {
            throw new LongshoreException('there is no such file, or it cannot be read');
        }
        $wish = ['filename' => basename($path), 'size' => filesize($path), 'sha256' => $sha256 ?? hash_file('sha256', $path)];
        $wish += $target === null ? [] : ['target' => $target];
        $wish['ref'] = hash('sha256', self::json($wish));
        return $this->finish($path, $this->create($wish));
    }

    private function finish(string $path, array $upload): array
    {
        $id = $upload['id'];
        $deadline = time() + 600 + intdiv(filesize($path), 1_000_000);
        $sent = false;
        while (!in_array($upload['status'], self::ENDS, true)) {
            if ($upload['attention'] ?? false) {
                throw new LongshoreException("the server needs its operator's attention for this upload");
            }
            if (time() > $deadline) {
                throw new LongshoreException("still {$upload['status']}; look later at /api/uploads/$id");
            }
            if ($upload['upload'] !== null && !$sent) {
                if ($sent = $this->postForm($upload['upload'], $path)) {
                    $this->confirm($id);
                }
                $upload = $sent ? $this->status($id, wait: 20) : $this->renew($id);
            } elseif ($upload['status'] === 'expired') {
                $sent = false;
                $upload = $this->renew($id);
            } elseif (!$sent && in_array($upload['status'], ['requested', 'issued'], true)) {
                usleep(500_000); // its form is about to be signed
                $upload = $this->status($id);
            } else {
                $upload = $this->status($id, wait: 20);
            }
        }
        if ($upload['status'] !== 'done') {
            throw new LongshoreException("the upload ended {$upload['status']}: " . ($upload['reason'] ?? 'no reason given'));
        }
        return $upload;
    }

    /** Posts the file to the bucket: the fields first, the file last. False if the form's time had run out. */
    private function postForm(array $form, string $path): bool
    {
        $ends = time() + $form['expires'];
        // curl reads the file piece by piece.
        $body = $form['fields'] + ['file' => new CURLFile($path, 'application/octet-stream', 'file')];
        [$status, $answer] = $this->send($form['url'], [CURLOPT_POSTFIELDS => $body]);
        if ($status < 300) {
            return true;
        }
        $message = preg_match('~<Message>([^<]*)~', $answer, $found) ? $found[1] : 'no reason given';
        if ($status === 403 && (time() >= $ends || stripos($message, 'expired') !== false)) {
            return false;
        }
        throw new LongshoreRefusal($status, '', "the bucket refused it: $message");
    }

    private function first(array $answer): array
    {
        return $answer['uploads'][0] ?? throw new LongshoreException("the server's answer holds no upload");
    }

    private function call(string $method, string $path, ?array $json = null, array $headers = []): array
    {
        $headers = [...$headers, "X-Api-Key: $this->key", "X-Api-Secret: $this->secret", 'Content-Type: application/json'];
        [$status, $answer] = $this->send($this->server . $path, [
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_HTTPHEADER => $headers,
            CURLOPT_TIMEOUT => 60,
        ] + ($json === null ? [] : [CURLOPT_POSTFIELDS => self::json($json)]));
        $told = json_decode($answer, true);
        if ($status < 300 && is_array($told)) {
            return $told;
        }
        $message = $told['error']['message'] ?? "$this->server does not answer as a longshore server would";
        throw new LongshoreRefusal($status, $told['error']['type'] ?? '', $message);
    }

    /** File names need not be UTF-8, JSON must. */
    private static function json(array $value): string
    {
        return json_encode($value, JSON_THROW_ON_ERROR | JSON_INVALID_UTF8_SUBSTITUTE);
    }

    /** Sends until the answer is one that a second try would not change: [status, body]. */
    private function send(string $url, array $options): array
    {
        $retryAfter = 0;
        $heed = function ($curl, string $line) use (&$retryAfter): int {
            if (preg_match('/^retry-after:\s*(\d+)/i', $line, $found)) {
                $retryAfter = (int) $found[1];
            }
            return strlen($line);
        };
        $curl = curl_init($url);
        curl_setopt_array($curl, $options + [
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_CONNECTTIMEOUT => 10,
            // However large a file is: a line on which nothing moves for so many seconds is dead.
            CURLOPT_LOW_SPEED_LIMIT => 1,
            CURLOPT_LOW_SPEED_TIME => $this->silence,
            CURLOPT_HEADERFUNCTION => $heed,
        ]);
        for ($attempt = 1; ; $attempt++) {
            $answer = curl_exec($curl);
            $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
            if ($answer !== false && !in_array($status, self::PASSING, true)) {
                return [$status, $answer];
            }
            if ($attempt === $this->attempts) {
                return $answer !== false ? [$status, $answer]
                    : throw new LongshoreException(parse_url($url, PHP_URL_HOST) . ' cannot be reached: ' . curl_error($curl));
            }
            $pause = $retryAfter > 0 ? min(60, $retryAfter) : min(20, 0.3 * 2 ** $attempt) * random_int(75, 125) / 100;
            usleep((int) ($pause * 1_000_000));
            $retryAfter = 0;
        }
    }
}
