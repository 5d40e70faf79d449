# The feedback server. Data lies in /data: docker run -p 127.0.0.1:8700:8700 -v backflip:/data backflip collect --host 0.0.0.0 --without-tls …
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "$(grep ^torch== constraints.txt)" \
    && pip install --no-cache-dir -c constraints.txt ".[feedback]"
RUN useradd --create-home backflip && mkdir /data && chown backflip /data
USER backflip
WORKDIR /data
ENV BACKFLIP_FEEDBACK=/data/feedback.sqlite
EXPOSE 8700
ENTRYPOINT ["backflip"]
# Whoever publishes the port to other machines stands a proxy with TLS before it: BACKFLIP_PUBLIC_URL.
CMD ["collect", "--host", "0.0.0.0", "--without-tls", "--no-open"]
